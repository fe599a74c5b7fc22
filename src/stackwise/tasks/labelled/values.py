"""Read the values of one column as numbers, dates, truth values or levels.

A column of text has far fewer different values than rows, so each function works on the distinct
values and spreads the answer over the rows. What cannot be read becomes missing, and is counted by
the caller: nothing here guesses.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from stackwise.tasks.labelled import numerals

MISSING_WORDS = frozenset(
    ("", "na", "n/a", "#n/a", "#na", "nan", "<na>", "null", "none", "nat", "-", "--", "?")
)
"""Texts that stand for a missing number or date, in lower case."""

TRUE_WORDS = frozenset(("true", "t", "yes", "y", "on", "1"))
FALSE_WORDS = frozenset(("false", "f", "no", "n", "off", "0"))


def is_numeric(series: pd.Series) -> bool:
    """Whether the column's type is a number's (a truth value is none)."""
    dtype = series.dtype
    return bool(pd.api.types.is_numeric_dtype(dtype)) and not pd.api.types.is_bool_dtype(dtype)


def floats(series: pd.Series) -> np.ndarray:
    """A numeric column as float64, missing as NaN. Infinities stay."""
    return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))


def beyond_floats(series: pd.Series) -> bool:
    """Whether a column holds whole numbers above 2^53, not each of which float64 can hold."""
    return series.dtype.kind in "iu" and largest(series) > numerals.EXACT


def largest(series: pd.Series) -> int:
    """The largest magnitude among whole numbers; 0 where there is none."""
    known = series.dropna()
    return max(abs(int(known.min())), abs(int(known.max()))) if len(known) else 0


def level(value: object) -> str:
    """The one spelling of a category: 1, 1.0 and True-like types do not depend on the file type."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return str(value).strip()


def levels(series: pd.Series) -> tuple[np.ndarray, list[str]]:
    """The distinct values of a column of any type.

    Returns:
        codes (n,) int64, -1 where missing or blank, and the spellings that they count.
    """
    if isinstance(series.dtype, pd.CategoricalDtype):
        codes = series.cat.codes.to_numpy(np.int64)
        distinct: Any = list(series.cat.categories)
    else:
        try:
            codes, distinct = pd.factorize(series)
        except TypeError:  # lists and dictionaries cannot be hashed
            codes, distinct = pd.factorize(series.map(repr, na_action="ignore"))
    spellings = [level(value) for value in distinct]
    place: dict[str, int] = {}
    for spelling in spellings:
        if spelling:
            place.setdefault(spelling, len(place))
    merged = np.array([*(place.get(spelling, -1) for spelling in spellings), -1], dtype=np.int64)
    return merged[codes], list(place)


_DAYS = (
    "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y",
    "%m/%d/%y", "%d.%m.%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y",
    "%B %d %Y", "%d-%b-%Y", "%d-%b-%y",
)  # fmt: skip
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_DATE_LIKE = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{2,4}"
    r"|[A-Za-z]{3,9} \d{1,2},? \d{4}|\d{4}-\d{2}(?!\d)"
)


def date_style(texts: Sequence[str]) -> tuple[str, np.ndarray, bool] | None:
    """The format with which most of the texts are dates.

    Returns:
        The format (ISO 8601 or a `strptime` one), the dates as days, and whether day and month
        could also be the other way round; None where the texts are no dates.
    """
    sample = list(texts[:: max(1, len(texts) // 200)])
    if not sample or sum(bool(_DATE_LIKE.match(text)) for text in sample) < len(sample) / 2:
        return None
    formats = ["ISO8601", *(day + clock for day in _DAYS for clock in _CLOCKS)]
    good = [fmt for fmt in formats if np.isnan(days(sample, fmt)).mean() <= 0.1]
    if not good:
        return None
    found = {fmt: days(texts, fmt) for fmt in good[:4]}
    best = min(found, key=lambda fmt: int(np.isnan(found[fmt]).sum()))
    lost = np.isnan(found[best]).sum()
    rivals = [
        fmt for fmt in found if fmt != best and np.isnan(found[fmt]).sum() == lost
        and not np.array_equal(found[fmt], found[best], equal_nan=True)
    ]  # fmt: skip
    return best, found[best], bool(rivals)


def days(texts: Sequence[str], fmt: str) -> np.ndarray:
    """Read spellings of dates as days since 1970 (float64, UTC); NaN where one is no date."""
    read = pd.to_datetime(
        pd.Series(list(texts), dtype=object), format=fmt, errors="coerce", utc=True
    )
    return stamp_days(read)


def stamp_days(series: pd.Series) -> np.ndarray:
    """A column of time stamps as days since 1970 (float64, UTC), missing as NaN."""
    if isinstance(series.dtype, pd.PeriodDtype):
        series = series.dt.to_timestamp()
    if getattr(series.dt, "tz", None) is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    stamps = series.to_numpy(dtype="datetime64[us]")
    found = stamps.astype(np.int64) / 86_400e6
    return np.where(np.isnat(stamps), np.nan, found)


def are_truths(words: Sequence[str]) -> bool:
    """Whether just two words are a no and a yes: with a third (N, F, Y) they are categories."""
    lower = {word.lower() for word in words}
    return len(lower) == 2 and set(truths(sorted(lower)).tolist()) == {0, 1}


def truths(spellings: Sequence[str], words: Sequence[str] | None = None) -> np.ndarray:
    """1 for a word of yes, 0 for a word of no, -1 for any other.

    Args:
        words: the spellings of training. Where they are single letters, no other letter counts:
            after N and Y an F is no truth value.
    """
    single = {word.lower() for word in words or () if len(word) == 1 and word.isalpha()}
    letters = {word[:1].lower() for word in words or ()} if single else None
    return np.array([_truth(word.lower(), letters) for word in spellings], dtype=np.int64)


def _truth(word: str, letters: set[str] | None) -> int:
    if letters is not None and len(word) == 1 and word.isalpha() and word not in letters:
        return -1
    return 1 if word in TRUE_WORDS else 0 if word in FALSE_WORDS else -1
