"""What should make a user look at the table again before a score is believed.

Each caution is one sentence about one column, or about the parts. They look at a sample of the
training rows, cost little, and are silent on ordinary tables: a false alarm teaches to ignore.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from stackwise.protocols import Part
from stackwise.tasks.table.cautions import leaks, odd_values, unseen
from stackwise.tasks.table.reading.columns import Column

SAMPLE = 5_000


def cautions(
    parts: Mapping[Part, tuple[pd.DataFrame, np.ndarray]],
    columns: Sequence[Column],
    target: str,
    *,
    classes: bool,
    own: Collection[Part] = (),
) -> list[str]:
    """Sentences about a loaded table.

    Args:
        parts: features and target of each part. columns: what the training part holds.
        target: its name. classes: whether it holds classes.
        own: the parts that came as tables of their own.
    """
    X, y = parts["train"]
    if len(X) > SAMPLE:
        rows = np.sort(np.random.default_rng(0).permutation(len(X))[:SAMPLE])
        X, y = X.iloc[rows], y[rows]
    shown: tuple[Part, ...] = ("validation", "test") if "test" in own else ("validation",)
    found = unseen.unseen_values(parts, columns, shown)
    found += leaks.repeated_rows(parts)
    found += leaks.giveaways(X, y, columns, target, classes=classes)
    found += odd_values.of_columns(X, columns)
    if not classes:
        found += odd_values.of_target(parts["train"][1], target)
    return found
