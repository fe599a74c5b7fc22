"""Which rows choose between methods: never those that stopped a fit, and not too few of them.

A network or a booster keeps its best state by some held-out rows, and its score on the same rows
flatters it; a method without such a stop is not flattered. So the two are parted:

    few rows    k folds over training and validation rows: copy i is judged on fold i, and stops by
                a part of the rows that it learns from
    many rows   one half of the validation rows stops, the other half chooses

Rows that are split by time, by a column or by a file of their own are never mixed into folds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError
from stackwise.tasks.labelled.folds import fold_numbers
from stackwise.tasks.labelled.split import split_parts

FEW_ROWS = 2000
"""Fewer training and validation rows than this choose by folds: a fifth of them is too few."""
FOLDS = 5
LEAST = 20
"""Validation rows that are parted; fewer both stop and choose, for want of others."""


def choosing_folds(options: Mapping[str, Any], rows: int) -> int | None:
    """Into how many folds `rows` are parted to choose by; None where the validation part does."""
    own = {"time", "split"} & set(options) or not isinstance(options.get("validation", 0.2), float)
    return None if own or not 2 * FOLDS <= rows < FEW_ROWS else FOLDS


def stopping_rows(
    y: np.ndarray, learned: np.ndarray, *, by_class: bool, groups: np.ndarray | None, seed: int
) -> np.ndarray:
    """(n,) bool: of the rows `learned` (n,) bool, a fifth that says when to stop.

    None of them where they are too few to be parted.
    """
    rows = np.flatnonzero(learned)
    found = np.zeros(len(y), dtype=bool)
    own = None if groups is None else groups[rows]
    try:
        numbers = fold_numbers(y[rows], FOLDS, by_class=by_class, groups=own, seed=seed)
    except DataError:
        return found
    found[rows[numbers == 0]] = True
    return found


def halves(
    frame: pd.DataFrame, y: np.ndarray, *, by_class: bool, groups: np.ndarray | None,
    time: str | None, seed: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The places of validation rows that stop fits, and of those that choose.

    Rows that are too few to be parted do both.

    Args:
        frame: the rows; time: its column by which they are split, of which the later half chooses.
        groups: (n,) rows of one group stay together.
    """
    everything = np.arange(len(y))
    if len(y) < LEAST:
        return everything, everything
    try:
        if time is not None:
            parts = split_parts(frame, y, how="time", column=time, test=0.0, validation=0.5)
            return parts.train, parts.validation
        numbers = fold_numbers(y, 2, by_class=by_class, groups=groups, seed=seed)
    except DataError:
        return everything, everything
    return np.flatnonzero(numbers == 0), np.flatnonzero(numbers == 1)
