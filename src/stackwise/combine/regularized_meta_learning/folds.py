"""The folds of a stack: the same for all base models, and never across a group or back in time."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    check_cv,
)

from stackwise.errors import DataError

Folds = list[tuple[np.ndarray, np.ndarray]]
"""(training rows, held-out rows) of each fold."""


def make_folds(
    cv: Any,
    y: np.ndarray,
    *,
    by_class: bool,
    groups: np.ndarray | None = None,
    ordered: bool = False,
    seed: int = 0,
    X: Any = None,
) -> Folds:
    """Part rows into folds.

    Args:
        cv: how many folds, shuffled (at most as many as rows, groups or rows of the most frequent
            class); or a splitter of scikit-learn, or pairs of row numbers.
        y: (n,) the target; classes are stratified.
        groups: (n,) rows of one group stay in one fold.
        ordered: a number of folds means that each is held out from the rows before it.
        X: what a splitter of your own is shown; by default the row numbers.

    Raises:
        DataError: there are too few rows or groups, or a row is held out twice.
    """
    rows = np.arange(len(y))
    if isinstance(cv, (int, np.integer)):
        splitter = _splitter(int(cv), y, by_class=by_class, groups=groups, ordered=ordered,
                             seed=seed)  # fmt: skip
    else:
        splitter = check_cv(cv, y, classifier=by_class)
    folds = [
        (np.asarray(train), np.asarray(held))
        for train, held in splitter.split(rows if X is None else X, y, groups)
    ]
    times = np.bincount(np.concatenate([held for _, held in folds]), minlength=len(y))
    if (times > 1).any():
        raise DataError(
            f"cv holds row {int(times.argmax())} out {int(times.max())} times; each row must be "
            "held out at most once"
        )
    return folds


def _splitter(
    count: int,
    y: np.ndarray,
    *,
    by_class: bool,
    groups: np.ndarray | None,
    ordered: bool,
    seed: int,
) -> Any:
    if groups is not None:
        most = len(np.unique(groups))
        what = "groups"
    else:
        # stratified folds need a class with a row for each
        most = int(np.unique(y, return_counts=True)[1].max()) if by_class else len(y)
        what = "rows of one class" if by_class else "rows"
    count = min(count, most)
    if count < 2 or len(y) < 2:
        raise DataError(f"folds need at least 2 {what}, there is {most}")
    if ordered:
        return TimeSeriesSplit(max(2, min(count, len(y) - 1)))
    if groups is not None:
        kind = StratifiedGroupKFold if by_class else GroupKFold
        return kind(count, shuffle=True, random_state=seed)
    return (StratifiedKFold if by_class else KFold)(count, shuffle=True, random_state=seed)


def is_partition(folds: Folds, rows: int) -> bool:
    """Whether each row is held out once, and learned from in every other fold."""
    return sum(len(held) for _, held in folds) == rows and all(
        len(train) + len(held) == rows for train, held in folds
    )


def held_out(folds: Iterable[tuple[np.ndarray, np.ndarray]], rows: int) -> np.ndarray:
    """(n,) bool: rows that some fold holds out."""
    found = np.zeros(rows, dtype=bool)
    for _, held in folds:
        found[held] = True
    return found
