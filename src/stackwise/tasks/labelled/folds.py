"""Folds of rows, by scikit-learn's splitters: never across a group, and never back in time.

Bagging and stacking part their rows here. A number of folds means shuffled ones of like size: of
groups that stay whole, with each class shared out alike, or of rows.
"""

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.model_selection import (
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    check_cv,
)

from stackwise.errors import DataError

Folds = list[tuple[np.ndarray, np.ndarray]]
"""(training rows, held-out rows) of each fold."""


def fold_numbers(
    y: np.ndarray, count: int, *, by_class: bool, groups: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Part all rows into just this many folds.

    Args:
        y: (n,) the target; each class is shared out over the folds alike.
        groups: (n,) rows of one group stay in one fold.

    Returns:
        (n,) int64 the fold that holds each row out, 0 .. count - 1.

    Raises:
        DataError: there are fewer rows or groups than folds.
    """
    units = len(y) if groups is None else len(np.unique(groups))
    if not 2 <= count <= units:
        what = "rows" if groups is None else "groups"
        raise DataError(f"{units:,} {what} cannot be parted into {count} folds")
    numbers = np.empty(len(y), dtype=np.int64)
    for fold, (_, held) in enumerate(_shuffled(y, count, by_class, groups, seed)):
        numbers[held] = fold
    return numbers


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
    """Part rows into folds, each of which is predicted by what the others teach.

    Args:
        cv: how many folds at most (no more than there are rows, groups or rows of the most frequent
            class), where a class of one row is never held out; or a splitter of scikit-learn, or
            pairs of row numbers.
        y: (n,) the target; classes are shared out alike.
        groups: (n,) rows of one group stay in one fold.
        ordered: a number of folds means that each is held out from the rows before it.
        X: what a splitter of your own is shown; by default the row numbers.

    Raises:
        DataError: there are too few rows or groups, or a row is held out twice.
    """
    rows = np.arange(len(y))
    if isinstance(cv, (int, np.integer)):
        count = _at_most(int(cv), y, by_class, groups)
        if ordered:
            return list(TimeSeriesSplit(max(2, min(count, len(y) - 1))).split(rows))
        folds = _shuffled(y, count, by_class, groups, seed)
        return _singles_stay(folds, y) if by_class and groups is None else folds
    splitter = check_cv(cv, y, classifier=by_class)
    folds = list(splitter.split(rows if X is None else X, y, groups))
    times = np.bincount(np.concatenate([held for _, held in folds]), minlength=len(y))
    if (times > 1).any():
        raise DataError(
            f"cv holds row {int(times.argmax())} out {int(times.max())} times; each row must be "
            "held out at most once"
        )
    return folds


def held_out(folds: Iterable[tuple[np.ndarray, np.ndarray]], rows: int) -> np.ndarray:
    """(n,) bool: rows that some fold holds out."""
    found = np.zeros(rows, dtype=bool)
    for _, held in folds:
        found[held] = True
    return found


def _shuffled(
    y: np.ndarray, count: int, by_class: bool, groups: np.ndarray | None, seed: int
) -> Folds:
    splitter: Any
    stratified = by_class and np.unique(y, return_counts=True)[1].max() >= count
    if groups is not None:
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    else:
        splitter = (StratifiedKFold if stratified else KFold)(
            count, shuffle=True, random_state=seed
        )
    target = y if stratified else np.zeros(len(y), dtype=np.int64)  # of one class: like sizes
    with warnings.catch_warnings():  # a rare class is missing in some folds, which is no surprise
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return list(splitter.split(np.arange(len(y)), target, groups))


def _at_most(count: int, y: np.ndarray, by_class: bool, groups: np.ndarray | None) -> int:
    if groups is not None:
        most, what = len(np.unique(groups)), "groups"
    elif by_class:  # stratified folds need a class with a row for each
        most, what = int(np.unique(y, return_counts=True)[1].max()), "rows of one class"
    else:
        most, what = len(y), "rows"
    if min(count, most, len(y)) < 2:
        raise DataError(f"folds need at least 2 {what}, there is {most}")
    return min(count, most)


def _singles_stay(folds: Folds, y: np.ndarray) -> Folds:
    """A row that is alone in its class is learned from in every fold, and held out in none."""
    found, counts = np.unique(y, return_counts=True)
    single = np.flatnonzero(np.isin(y, found[counts == 1]))
    if not len(single):
        return folds
    parted = [(np.union1d(train, single), np.setdiff1d(held, single)) for train, held in folds]
    return [(train, held) for train, held in parted if len(held)]
