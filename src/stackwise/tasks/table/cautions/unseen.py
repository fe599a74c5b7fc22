"""Values of the held-out rows that training lacks, where they are more than a few."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from stackwise.protocols import Part
from stackwise.tasks.table.features import by_column
from stackwise.tasks.table.reading.columns import Column

SHARE = 0.01
"""Share of a part's rows that is worth a sentence."""
MOST = 5
"""Columns that get a sentence of their own."""


def unseen_values(
    parts: Mapping[Part, tuple[pd.DataFrame, np.ndarray]],
    columns: Sequence[Column],
    shown: Sequence[Part],
) -> list[str]:
    """A sentence for each category with rows of a value that it never had in training.

    Args:
        shown: the parts that may be looked at: not a test part that was split off.
    """
    found = []
    for column in columns:
        if column.kind not in ("category", "boolean") or "separator" in column.detail:
            continue
        said, example = [], ""
        for part in shown:
            X = parts[part][0]
            _, count, strange = by_column.codes(column, X[column.name])
            if count > SHARE * len(X):
                said.append(f"{count:,} of {len(X):,} {part} rows")
                example = example or strange
        if said:
            found.append(
                f"column {column.name!r}: {' and '.join(said)} hold a value that training lacks, "
                f"such as {example[:60]!r}"
            )
    more = len(found) - MOST
    return [*found[:MOST], *([f"{more} more columns hold such values"] if more > 0 else [])]
