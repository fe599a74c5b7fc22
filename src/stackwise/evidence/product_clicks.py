"""Clicks whose chance is known: a logistic model of products of pairs of categories.

Each value c of field i has a hidden number a_i(c) ~ N(0, 1), and

    logit P(click) = STRENGTH * sum over the chosen pairs (i, j) of a_i(c_i) a_j(c_j)

No field says anything by itself, so that only a model of products can rank the rows.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

STRENGTH = 0.8


@dataclass
class ProductClicks:
    """Rows, their labels and what made them.

    Attributes:
        frame: fields c0, c1, ... and the target `click`.
        logit: (rows,) of the chance of a click.
        pairs: the pairs of fields whose products count.
    """

    frame: pd.DataFrame
    logit: np.ndarray
    pairs: list[tuple[int, int]]

    @property
    def other_pairs(self) -> list[tuple[int, int]]:
        """The pairs of fields whose products say nothing."""
        fields = self.frame.shape[1] - 1
        return [pair for pair in itertools.combinations(range(fields), 2) if pair not in self.pairs]


def product_clicks(
    rows: int, *, fields: int = 8, values: int = 100, pairs: int = 4, seed: int = 0
) -> ProductClicks:
    """Draw a world of hidden numbers and pairs, and rows of it; all values are equally likely."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=(fields, values))
    every = list(itertools.combinations(range(fields), 2))
    chosen = sorted(every[i] for i in generator.permutation(len(every))[:pairs])
    codes = generator.integers(0, values, (rows, fields))
    seen = hidden[np.arange(fields), codes]
    logit = STRENGTH * sum(seen[:, i] * seen[:, j] for i, j in chosen)
    frame = pd.DataFrame({f"c{i}": [f"v{c}" for c in codes[:, i]] for i in range(fields)})
    clicked = generator.random(rows) < 1 / (1 + np.exp(-logit))
    frame["click"] = np.where(clicked, "yes", "no")
    return ProductClicks(frame, np.asarray(logit), chosen)
