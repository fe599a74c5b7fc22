"""Find out what each column of a table holds, from the training rows alone.

What was found is a `Column`: plain JSON, so that a model reads a new table in just the same way.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import numpy as np
import pandas as pd

from stackwise.errors import DataError, nearest
from stackwise.tasks.labelled import numerals, values
from stackwise.tasks.table.reading.coding import category, several
from stackwise.tasks.table.reading.columns import USED, Column, Kind
from stackwise.tasks.table.reading.fingerprint import content_of
from stackwise.tasks.table.reading.plain import plain_columns
from stackwise.tasks.table.reading.vocabulary import Vocabulary

TEXT_WIDTH = 32
"""Free text becomes this many hashed word counts."""

_IDENTIFIER_NAME = re.compile(
    r"(?:.*[_\s.-])?(?:id|uuid|guid|index|rowid|rownames)|unnamed:? \d+", re.IGNORECASE
)
_CAMEL_IDENTIFIER = re.compile(r".*[a-z]I[dD]")


def infer_columns(
    frame: pd.DataFrame,
    *,
    kinds: dict[str, Kind] | None = None,
    identifiers: bool = True,
    vocabulary: Vocabulary | None = None,
    keep: Iterable[str] = (),
) -> list[Column]:
    """Decide for each column what it holds.

    Args:
        frame: the training rows, without the target. `attrs["decimal"]` is the decimal sign of
            columns that leave it open (see `plain_columns`).
        kinds: columns whose kind is known: number, category, date or text.
        identifiers: look for identifiers; off for arrays, whose columns have no names.
        vocabulary: which values of a category get a code of their own.
        keep: columns that are used although they look like identifiers.

    Raises:
        DataError: two columns have one name, or `kinds` names no column or no kind.
    """
    if "words" not in frame.attrs:  # a frame that did not come through `read_table`
        frame = plain_columns(frame)
    vocabulary = vocabulary or Vocabulary()
    decimal = frame.attrs.get("decimal")
    names = [str(name) for name in frame.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"the column name {repeated[0]!r} appears twice; give each its own name")
    for name in (*(kinds or {}), *vocabulary.separators):
        if name not in names:
            raise DataError(f"there is no column {name!r}.{nearest(name, names)}")
    for name, kind in (kinds or {}).items():
        if kind not in USED:
            raise DataError(f"{name!r} cannot be read as {kind!r}.{nearest(kind, get_args(Kind))}")
    kept = set(keep)
    columns: list[Column] = []
    seen: dict[bytes, str] = {}
    for place, name in enumerate(names):
        series = frame.iloc[:, place]
        if name in vocabulary.separators:
            column = several(name, series, vocabulary)
        else:
            wanted, look = (kinds or {}).get(name), identifiers and name not in kept
            column = _infer(name, series, wanted, look, vocabulary, decimal)
        if column.used:
            content = content_of(series)
            if content in seen:
                column = Column(name, "duplicate", {"why": f"equal to {seen[content]!r}"})
            else:
                seen[content] = name
        columns.append(column)
    return columns


def _infer(
    name: str,
    series: pd.Series,
    wanted: Kind | None,
    identifiers: bool,
    vocabulary: Vocabulary,
    decimal: str | None,
) -> Column:
    series = series.infer_objects()
    if pd.api.types.is_complex_dtype(series.dtype):
        raise DataError(f"column {name!r} holds complex numbers; give real ones")
    if isinstance(series.dtype, pd.PeriodDtype) or pd.api.types.is_datetime64_any_dtype(
        series.dtype
    ):
        return _date(name, values.stamp_days(series), None)
    if pd.api.types.is_timedelta64_dtype(series.dtype):
        series = series.dt.total_seconds()
    if values.is_numeric(series):
        return _numeric(name, series, wanted, identifiers, vocabulary)
    return _textual(name, series, wanted, identifiers, vocabulary, decimal)


def _numeric(
    name: str, series: pd.Series, wanted: Kind | None, identifiers: bool, vocabulary: Vocabulary
) -> Column:
    if values.beyond_floats(series) and wanted != "number":
        named = _large(name, series, wanted, identifiers, vocabulary)
        if named is not None:
            return named
    found = values.floats(series)
    infinite = int(np.isinf(found).sum())
    known = found[np.isfinite(found)]
    missing = len(found) - len(known) - infinite
    detail = {"missing": missing, "infinite": infinite}
    if not len(known):
        return Column(name, "empty", {"why": "every value is missing"})
    low, high = known.min(), known.max()
    if low == high and len(known) == len(found):
        return Column(name, "constant", {"why": f"always {values.level(low)}"})
    if wanted in ("category", "text"):
        return category(name, series.where(np.isfinite(found)), detail, "number", vocabulary)
    if wanted is None and low == high:
        return category(name, series.where(np.isfinite(found)), detail, "number", vocabulary)
    if wanted is None and ((known == low) | (known == high)).all():
        if (low, high) == (0, 1):
            return Column(name, "boolean", detail)
        if low.is_integer() and high.is_integer():
            return category(name, series.where(np.isfinite(found)), detail, "number", vocabulary)
    if wanted is None and identifiers and vocabulary.ids and _names_things(name, known):
        return category(name, series.where(np.isfinite(found)), detail, "number", vocabulary)
    if wanted is None and identifiers and len(known) == len(found):
        why = _row_number(name, known)
        if why:
            return Column(name, "identifier", {"why": why})
    return Column(name, "number", detail | {"values": "number", "unreadable": 0})


def _large(
    name: str, series: pd.Series, wanted: Kind | None, identifiers: bool, vocabulary: Vocabulary
) -> Column | None:
    """Whole numbers above 2^53, which name things: a category, an identifier or a constant.

    None where nearly every row has its own and float64 tells them apart: a time in nanoseconds.
    """
    codes, spellings = values.levels(series)
    present = int((codes >= 0).sum())
    detail = {"missing": len(codes) - present}
    if len(spellings) == 1 and present == len(codes):
        return Column(name, "constant", {"why": f"always {spellings[0]}"})
    if wanted is None and len(spellings) > 2 and not identifiers:
        return None
    if wanted is None and len(spellings) > 0.9 * present and present >= 5:
        apart = len(np.unique(values.floats(series.dropna()))) == len(spellings)
        if apart and not _names_rows(name):
            return None
        return Column(name, "identifier", {"why": "nearly every row has its own value"})
    return category(name, series, detail, "number", vocabulary)


def _row_number(name: str, known: np.ndarray) -> str | None:
    """Why whole numbers, none missing, only name the row; None where they do not."""
    if len(known) < 5 or not np.equal(np.floor(known), known).all():
        return None
    rising = bool((known[1:] > known[:-1]).all())
    if not rising and len(np.unique(known)) < len(known):
        return None
    if _names_rows(name):
        return "each row has its own value, and the name says that it is an identifier"
    near_start = known[0] <= 1 + len(known) / 20 and known[0] >= 0
    if rising and len(known) >= 50 and near_start and known[-1] - known[0] < 4 * len(known):
        return "it counts the rows"
    return None


def _names_things(name: str, known: np.ndarray) -> bool:
    """Whether whole numbers name things that return (users, items), by the column's name."""
    whole = bool(np.equal(np.floor(known), known).all())
    return whole and _names_rows(name) and len(np.unique(known)) <= 0.9 * len(known)


def _names_rows(name: str) -> bool:
    return bool(_IDENTIFIER_NAME.fullmatch(name) or _CAMEL_IDENTIFIER.fullmatch(name))


def _textual(
    name: str,
    series: pd.Series,
    wanted: Kind | None,
    identifiers: bool,
    vocabulary: Vocabulary,
    decimal: str | None,
) -> Column:
    codes, spellings = values.levels(series)
    counts = np.bincount(codes[codes >= 0], minlength=len(spellings))
    present = int(counts.sum())
    missing = len(codes) - present
    if not present:
        return Column(name, "empty", {"why": "every value is missing"})
    if (counts > 0).sum() == 1 and not missing:
        return Column(name, "constant", {"why": f"always {spellings[int(counts.argmax())]!r}"})
    detail = {"missing": missing}
    present_words = [s for s, count in zip(spellings, counts, strict=True) if count]
    if wanted is None and values.are_truths(present_words):
        return Column(name, "boolean", detail | {"words": present_words})
    declared = isinstance(series.dtype, pd.CategoricalDtype) and wanted is None
    if wanted in (None, "number", "date") and not declared:
        read = _numbers_or_dates(name, codes, spellings, wanted, identifiers, vocabulary, decimal)
        if read is not None:
            return read
    if wanted in ("number", "date"):
        raise DataError(f"column {name!r} cannot be read as a {wanted}: it holds {spellings[0]!r}")
    used = int((counts > 0).sum())
    words = float(np.mean([len(text.split()) for text in spellings[:1000]]))
    many = used > present / 2 or used > vocabulary.max_levels
    if wanted == "text" or (wanted is None and words >= 3 and many):
        return Column(name, "text", detail | {"width": TEXT_WIDTH})
    if wanted is None and identifiers and present >= 5 and used > 0.9 * present:
        return Column(name, "identifier", {"why": "nearly every row has its own value"})
    return category(name, series, detail, "text", vocabulary)


def _numbers_or_dates(
    name: str,
    codes: np.ndarray,
    spellings: list[str],
    wanted: Kind | None,
    identifiers: bool,
    vocabulary: Vocabulary,
    decimal: str | None,
) -> Column | None:
    """Text that is really a number or a date: at least 19 in 20 of the values read as one."""
    words = np.array([text.lower() in values.MISSING_WORDS for text in spellings])
    told = [text for text, word in zip(spellings, words, strict=True) if not word]
    rows = codes >= 0
    rows[rows] = ~words[codes[rows]]
    missing = int(len(codes) - rows.sum())
    if not told and len(spellings) == 1:
        return Column(name, "empty", {"why": "every value is missing"})
    if not told:
        return None  # words for nothing that differ: somebody meant something by them
    nothing = _counted(codes, spellings, words)
    share = 0.05 * rows.sum()

    def spread(read: np.ndarray) -> np.ndarray:
        whole = np.full(len(spellings), np.nan)
        whole[~words] = read
        return np.where(rows, whole[codes], np.nan)

    style = numerals.number_style(told, decimal) if wanted != "date" else None
    if style is not None:
        found = spread(style.numbers)
        unreadable = int((np.isnan(found) & rows).sum())
        if unreadable <= share:
            plain = _numeric(name, pd.Series(found), wanted, identifiers, vocabulary)
            extra: dict[str, Any] = {"decimal": style.sign}
            if plain.kind == "category":
                return Column(name, plain.kind, plain.detail | extra)
            if plain.kind != "number":
                return plain
            extra |= {"values": "text", "marks": numerals.marks(told, style.sign)}
            extra |= {"open": next(_open(told))} if style.open else {}
            counted = {"missing": missing, "unreadable": unreadable, "nothing": nothing}
            return Column(name, "number", plain.detail | extra | counted)
    dated = values.date_style(told) if wanted != "number" else None
    if dated is not None:
        found = spread(dated[1])
        unreadable = int((np.isnan(found) & rows).sum())
        if unreadable <= share:
            column = _date(name, found, dated[0])
            counted = {"missing": missing, "unreadable": unreadable, "ambiguous": dated[2],
                       "nothing": nothing}  # fmt: skip
            return Column(name, column.kind, column.detail | counted)
    return None


def _counted(codes: np.ndarray, spellings: list[str], which: np.ndarray) -> dict[str, int]:
    """The rows of each of these spellings."""
    rows = np.bincount(codes[codes >= 0], minlength=len(spellings))
    return {spellings[place]: int(rows[place]) for place in np.flatnonzero(which)}


def _open(texts: list[str]) -> Iterator[str]:
    """The texts that both decimal signs read, to other numbers."""
    for text in texts:
        point, comma = numerals.number(text, "."), numerals.number(text, ",")
        if point != comma and not np.isnan([point, comma]).any():
            yield text


def _date(name: str, found: np.ndarray, fmt: str | None) -> Column:
    known = found[~np.isnan(found)]
    if not len(known):
        return Column(name, "empty", {"why": "every value is missing"})
    if len(known) == len(found) and known.min() == known.max():
        return Column(name, "constant", {"why": "always the same date"})
    span = float(known.max() - known.min())
    parts = ["day number"]
    if span > 31:
        parts.append("day of the year")
    if span > 1 and len(np.unique(np.floor(known) % 7)) > 1:
        parts.append("day of the week")
    if (known % 1).any():
        parts.append("time of day")
    missing = len(found) - len(known)
    return Column(
        name, "date", {"format": fmt, "parts": parts, "missing": missing, "unreadable": 0}
    )
