"""Part the rows into training, validation and test.

Shares are of all rows. A part never shares a row with another; with a group column no group, and
with a time column no moment, is in two parts, and each part is later than the one before it. Parts
are sorted, so that rows keep the order of the source.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from stackwise.errors import DataError, nearest
from stackwise.tasks.labelled import numerals, values

How = Literal["random", "stratified", "group", "time", "given"]
PARTS = ("train", "validation", "test")
_WORDS = {
    "train": "train", "training": "train", "fit": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "holdout": "test",
}  # fmt: skip


@dataclass
class Parts:
    """Row numbers of each part, sorted, int64, and what a person should know about them."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    notes: list[str] = field(default_factory=list)


def split_parts(
    frame: pd.DataFrame,
    y: np.ndarray,
    *,
    how: How = "random",
    column: str | None = None,
    test: float = 0.2,
    validation: float = 0.2,
    seed: int = 0,
) -> Parts:
    """Part the rows.

    Args:
        frame: (n, ...) the table with the column that parts it.
        y: (n,) the target, for `stratified`.
        how: `random`; `stratified` keeps the shares of the classes (a class of one row goes to
            training, of two to training and one other part); `group`, `time` and `given` read
            `column`.
        test: share of all rows, 0 for none; for `given` only where no row is called test.
        validation: the same.

    Raises:
        DataError: a share is out of range, the column is missing or blank in some rows, holds too
            few groups or moments, or a word that names no part; or a part would be empty.
    """
    for name, share in (("test", test), ("validation", validation)):
        if not 0 <= share < 1:
            raise DataError(f"the share {name}={share} is not between 0 and 1")
    if test + validation >= 1:
        raise DataError(f"test={test} and validation={validation} leave no row for training")
    generator = np.random.default_rng(seed)
    rows = len(y)
    if how == "given":
        parts = _given(_column(frame, column), y, test, validation, generator)
    else:
        wanted = {"test": test, "validation": validation}
        if how == "group":
            labels = _grouped(_column(frame, column), wanted, generator)
        elif how == "time":
            labels = _timed(_column(frame, column), wanted)
        elif how == "stratified":
            labels = _stratified(y, wanted, generator)
        elif how == "random":
            labels = _stratified(np.zeros(rows, dtype=np.int64), wanted, generator)
        else:
            choices = ("random", "stratified", "group", "time", "given")
            raise DataError(f"rows cannot be split {how!r}.{nearest(how, choices)}")
        parts = _parts(labels)
    for name, share in (("train", 1.0), ("validation", validation), ("test", test)):
        if share and not len(getattr(parts, name)):
            counted = "1 row is" if rows == 1 else f"{rows:,} rows are"
            raise DataError(f"the {name} part would be empty: {counted} too few to split by {how}")
    return parts


def _parts(labels: np.ndarray) -> Parts:
    train, validation, test = (np.flatnonzero(labels == i) for i in range(3))
    return Parts(train, validation, test)


def _column(frame: pd.DataFrame, name: str | None) -> pd.Series:
    if name is None or name not in frame.columns:
        raise DataError(f"there is no column {name!r} to split by.{nearest(str(name), frame)}")
    series = frame[name]
    blank = int(series.isna().sum())
    if blank:
        raise DataError(f"column {name!r} is missing in {blank:,} rows; the split needs it in each")
    return series


def thin(parts: Parts, max_rows: int | None, seed: int) -> None:
    """Keep at most `max_rows` training rows, drawn at random and in their order.

    Validation rows, which cost time in every epoch, are thinned by the same share, but not below
    100; the test part stays whole.
    """
    if max_rows is None or len(parts.train) <= max_rows:
        return
    share = max_rows / len(parts.train)
    parts.notes.append(
        f"training uses {max_rows:,} of its {len(parts.train):,} rows, drawn at random, and "
        "validation is thinned alike"
    )
    generator = np.random.default_rng(seed)
    for part in ("train", "validation"):
        rows = getattr(parts, part)
        count = max_rows if part == "train" else max(round(share * len(rows)), min(len(rows), 100))
        setattr(parts, part, rows[np.sort(generator.permutation(len(rows))[:count])])


def _stratified(
    y: np.ndarray, wanted: dict[str, float], generator: np.random.Generator
) -> np.ndarray:
    """Labels (n,) of 0 train, 1 validation, 2 test, with each class shared out alike."""
    _, classes = np.unique(y, return_inverse=True)
    labels = np.zeros(len(y), dtype=np.int64)
    owed = dict.fromkeys(wanted, 0.0)
    for of_class in range(classes.max() + 1):
        rows = generator.permutation(np.flatnonzero(classes == of_class))
        free = len(rows) - 1  # training keeps at least one
        for name in ("test", "validation"):
            owed[name] += wanted[name] * len(rows)  # what rounding left over goes to later classes
            take = min(free, max(0, round(owed[name])))
            owed[name] -= take
            labels[rows[free + 1 - take : free + 1]] = PARTS.index(name)
            free -= take
    return labels


def _grouped(
    series: pd.Series, wanted: dict[str, float], generator: np.random.Generator
) -> np.ndarray:
    """Whole groups, in random order: each goes to the part that lacks most of its share."""
    codes, groups = pd.factorize(series)
    needed = 1 + sum(share > 0 for share in wanted.values())
    if len(groups) < needed:
        raise DataError(
            f"column {series.name!r} has {len(groups)} groups; splitting by it takes {needed}"
        )
    sizes = np.bincount(codes)
    shares = np.array([1 - sum(wanted.values()), wanted["validation"], wanted["test"]])
    lacking = shares * len(codes)
    label_of = np.zeros(len(groups), dtype=np.int64)
    order = generator.permutation(len(groups))
    order = order[np.argsort(-sizes[order], kind="stable")]  # the large ones first: closer shares
    empty = [i for i in range(3) if shares[i] > 0]
    for left, group in zip(range(len(order), 0, -1), order, strict=True):
        open_to = empty if left <= len(empty) else [i for i in range(3) if shares[i] > 0]
        part = max(open_to, key=lambda i: lacking[i])
        label_of[group] = part
        lacking[part] -= sizes[group]
        empty = [i for i in empty if i != part]
    return label_of[codes]


def _timed(series: pd.Series, wanted: dict[str, float]) -> np.ndarray:
    """The latest moments are the test, those before them the validation part."""
    moments = moments_of(series)
    distinct, first = np.unique(np.sort(moments), return_index=True)
    needed = 1 + sum(share > 0 for share in wanted.values())
    if len(distinct) < needed:
        raise DataError(
            f"column {series.name!r} has {len(distinct)} moments; splitting by it takes {needed}"
        )
    ends = np.append(first[1:], len(moments))  # rows up to and with each moment
    labels = np.zeros(len(moments), dtype=np.int64)
    last = len(distinct)
    kept = float(len(moments))
    for part, name in ((2, "test"), (1, "validation")):
        if not wanted[name]:
            continue
        kept -= wanted[name] * len(moments)
        smallest = 1 if part == 1 or not wanted["validation"] else 2
        cut = int(np.argmin(np.abs(ends - kept))) + 1  # moments that stay before this part
        cut = min(max(cut, smallest), last - 1)
        inside = moments >= distinct[cut]
        if last < len(distinct):
            inside &= moments < distinct[last]
        labels[inside] = part
        last = cut
    return labels


def moments_of(series: pd.Series) -> np.ndarray:
    """A column of dates, or of numbers such as years, as (n,) float64 that rises with time."""
    series = series.infer_objects()
    if values.is_numeric(series):
        moments = values.floats(series)
    elif isinstance(series.dtype, pd.PeriodDtype) or pd.api.types.is_datetime64_any_dtype(
        series.dtype
    ):
        moments = values.stamp_days(series)
    else:
        codes, spellings = values.levels(series)
        style = values.date_style(spellings) or numerals.number_style(spellings)
        if style is None:
            raise DataError(
                f"column {series.name!r} holds no dates or numbers to order the rows by, but "
                f"{spellings[0]!r}"
            )
        moments = style[1][codes]
    unread = int((~np.isfinite(moments)).sum())
    if unread:
        raise DataError(f"column {series.name!r} has no readable time in {unread:,} rows")
    return moments


def _given(
    series: pd.Series,
    y: np.ndarray,
    test: float,
    validation: float,
    generator: np.random.Generator,
) -> Parts:
    """The parts that the column names; one that it does not name is taken out of training."""
    codes, spellings = values.levels(series)
    labels = np.empty(len(spellings), dtype=np.int64)
    for place, word in enumerate(spellings):
        said = _WORDS.get(word.lower())
        if said is None:
            raise DataError(
                f"column {series.name!r} says {word!r}; it may say train, validation or test"
            )
        labels[place] = PARTS.index(said)
    found = labels[codes]
    notes = []
    for part, name, share in ((1, "validation", validation), (2, "test", test)):
        if share and not (found == part).any():
            train = generator.permutation(np.flatnonzero(found == 0))
            found[train[: max(1, round(share * len(train)))]] = part
            notes.append(f"column {series.name!r} names no {name} rows: {share:.0%} of training")
    parts = _parts(found)
    parts.notes = notes
    return parts
