"""Find out what each column of a table holds, and say what will be done with it.

A column is a number, a category, a boolean, a date or free text; or it is left out because it is
empty, constant, an identifier, or equal to an earlier column. `infer_columns` decides from the
training rows alone, and what it found is plain JSON, so that a model carries it along.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from stackwise.errors import DataError, nearest
from stackwise.tasks.table import values
from stackwise.tasks.table.vocabulary import Vocabulary, buckets, parted

Kind = Literal[
    "number", "category", "boolean", "date", "text", "identifier", "constant", "duplicate", "empty"
]
USED: tuple[Kind, ...] = ("number", "category", "boolean", "date", "text")
TEXT_WIDTH = 32
"""Free text becomes this many hashed word counts."""
KEEP = "keep"
"""`frame.attrs[KEEP]` lists columns that are never taken for identifiers."""

_IDENTIFIER_NAME = re.compile(
    r"(?:.*[_\s.-])?(?:id|uuid|guid|index|rowid|rownames)|unnamed:? \d+", re.IGNORECASE
)
_CAMEL_IDENTIFIER = re.compile(r".*[a-z]I[dD]")


@dataclass
class Column:
    """One column of the input.

    Attributes:
        name: its header.
        kind: what it holds, or why it is left out.
        detail: what reading it again needs, and what was counted; plain JSON.
    """

    name: str
    kind: Kind
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def used(self) -> bool:
        """Whether a model sees it."""
        return self.kind in USED

    @cached_property
    def places(self) -> dict[Any, int]:
        """The code of each level of a category, or of each bucket that training filled."""
        known = self.detail["filled" if self.detail.get("buckets") else "levels"]
        return {level: code for code, level in enumerate(known)}

    def as_dict(self) -> dict[str, Any]:
        """The column as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Column":
        """The inverse of `as_dict`."""
        return cls(record["name"], record["kind"], dict(record["detail"]))

    def report(self) -> dict[str, str]:
        """What a person is shown: `column`, `kind` and `done`, a sentence."""
        return {"column": self.name, "kind": self.kind, "done": _sentence(self)}


def _sentence(column: Column) -> str:
    detail = column.detail
    if column.kind == "number":
        parts = ["used as a number"]
        if detail.get("marks"):
            parts.append(f"read without {', '.join(detail['marks'])}")
        if detail.get("decimal") == ",":
            parts.append("decimal comma")
    elif column.kind == "category":
        parts = [f"{len(detail['levels'])} categories"]
        if detail.get("buckets"):
            parts = [f"{detail['distinct']} categories share {detail['buckets']} codes by hash"]
        if detail["other"]:
            parts.append(f"{detail['other']} rare ones become one more")
        if detail.get("separator"):
            parts.append(f"up to {detail['slots']} in a row, parted by {detail['separator']!r}")
    elif column.kind == "boolean":
        parts = ["used as no or yes"]
    elif column.kind == "date":
        parts = [f"becomes {', '.join(detail['parts'])}"]
        if detail.get("format"):
            parts.append(f"read as {detail['format']}")
        if detail.get("ambiguous"):
            parts.append("day and month could be the other way round")
    elif column.kind == "text":
        parts = [f"becomes {detail['width']} hashed word counts"]
    else:
        return f"dropped: {detail['why']}"
    for count, what in (
        ("missing", "missing"),
        ("infinite", "infinite, treated as missing"),
        ("unreadable", "unreadable, treated as missing"),
    ):
        if detail.get(count):
            parts.append(f"{detail[count]:,} {what}")
    return "; ".join(parts)


def infer_columns(
    frame: pd.DataFrame,
    *,
    kinds: dict[str, Kind] | None = None,
    identifiers: bool = True,
    vocabulary: Vocabulary | None = None,
) -> list[Column]:
    """Decide for each column what it holds.

    Args:
        frame: the training rows, without the target. Its `attrs["keep"]` may list columns that
            are used although they look like identifiers.
        kinds: columns whose kind is known: number, category, date or text.
        identifiers: look for identifiers; off for arrays, whose columns have no names.
        vocabulary: which values of a category get a code of their own.

    Raises:
        DataError: two columns have one name, or `kinds` names no column or no kind.
    """
    vocabulary = vocabulary or Vocabulary()
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
    kept = frame.attrs.get(KEEP, ())
    columns: list[Column] = []
    seen: dict[bytes, str] = {}
    for place, name in enumerate(names):
        series = frame.iloc[:, place]
        if name in vocabulary.separators:
            column = _several(name, series, vocabulary)
        else:
            wanted, look = (kinds or {}).get(name), identifiers and name not in kept
            column = _infer(name, series, wanted, look, vocabulary)
        if column.used:
            content = _content(series)
            if content in seen:
                column = Column(name, "duplicate", {"why": f"equal to {seen[content]!r}"})
            else:
                seen[content] = name
        columns.append(column)
    return columns


def _infer(
    name: str, series: pd.Series, wanted: Kind | None, identifiers: bool, vocabulary: Vocabulary
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
    return _textual(name, series, wanted, identifiers, vocabulary)


def _numeric(
    name: str, series: pd.Series, wanted: Kind | None, identifiers: bool, vocabulary: Vocabulary
) -> Column:
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
        return _category(name, series.where(np.isfinite(found)), detail, "number", vocabulary)
    if wanted is None and low == high:
        return _category(name, series.where(np.isfinite(found)), detail, "number", vocabulary)
    if wanted is None and ((known == low) | (known == high)).all():
        if (low, high) == (0, 1):
            return Column(name, "boolean", detail)
        if low.is_integer() and high.is_integer():
            return _category(name, series.where(np.isfinite(found)), detail, "number", vocabulary)
    if wanted is None and identifiers and vocabulary.ids and _names_things(name, known):
        return _category(name, series.where(np.isfinite(found)), detail, "number", vocabulary)
    if wanted is None and identifiers and len(known) == len(found):
        why = _row_number(name, known)
        if why:
            return Column(name, "identifier", {"why": why})
    return Column(name, "number", detail | {"values": "number", "unreadable": 0})


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
    name: str, series: pd.Series, wanted: Kind | None, identifiers: bool, vocabulary: Vocabulary
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
    truths = values.truths([s for s, count in zip(spellings, counts, strict=True) if count])
    if wanted is None and set(truths.tolist()) == {0, 1}:
        return Column(name, "boolean", detail)
    declared = isinstance(series.dtype, pd.CategoricalDtype) and wanted is None
    if wanted in (None, "number", "date") and not declared:
        read = _numbers_or_dates(name, codes, spellings, wanted, identifiers, vocabulary)
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
    return _category(name, series, detail, "text", vocabulary)


def _numbers_or_dates(
    name: str,
    codes: np.ndarray,
    spellings: list[str],
    wanted: Kind | None,
    identifiers: bool,
    vocabulary: Vocabulary,
) -> Column | None:
    """Text that is really a number or a date: at least 19 in 20 of the values read as one."""
    words = np.array([text.lower() in values.MISSING_WORDS for text in spellings])
    told = [text for text, word in zip(spellings, words, strict=True) if not word]
    rows = codes >= 0
    rows[rows] = ~words[codes[rows]]
    missing = int(len(codes) - rows.sum())
    if not told:
        return Column(name, "empty", {"why": "every value is missing"})
    share = 0.05 * rows.sum()

    def spread(read: np.ndarray) -> np.ndarray:
        whole = np.full(len(spellings), np.nan)
        whole[~words] = read
        return np.where(rows, whole[codes], np.nan)

    style = values.number_style(told) if wanted != "date" else None
    if style is not None:
        found = spread(style[1])
        unreadable = int((np.isnan(found) & rows).sum())
        if unreadable <= share:
            plain = _numeric(name, pd.Series(found), wanted, identifiers, vocabulary)
            if plain.kind != "number":
                return plain
            extra = {"values": "text", "decimal": style[0], "marks": values.marks(told)}
            counted = {"missing": missing, "unreadable": unreadable}
            return Column(name, "number", plain.detail | extra | counted)
    dated = values.date_style(told) if wanted != "number" else None
    if dated is not None:
        found = spread(dated[1])
        unreadable = int((np.isnan(found) & rows).sum())
        if unreadable <= share:
            column = _date(name, found, dated[0])
            counted = {"missing": missing, "unreadable": unreadable, "ambiguous": dated[2]}
            return Column(name, column.kind, column.detail | counted)
    return None


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


def _category(
    name: str, series: pd.Series, detail: dict[str, Any], source: str, vocabulary: Vocabulary
) -> Column:
    codes, spellings = values.levels(series)
    counts = np.bincount(codes[codes >= 0], minlength=len(spellings))
    return Column(name, "category", detail | _coded(spellings, counts, source, vocabulary))


def _coded(
    spellings: list[str], counts: np.ndarray, source: str, vocabulary: Vocabulary
) -> dict[str, Any]:
    """What is kept of the values of a category, of which `counts` has the rows."""
    distinct = int((counts > 0).sum())
    found: dict[str, Any] = {"levels": [], "other": 0, "values": source}
    if vocabulary.hashes(distinct):
        count = vocabulary.hash_buckets
        assert count is not None
        filled = buckets((s for s, n in zip(spellings, counts, strict=True) if n), count)
        return found | {"buckets": count, "filled": np.unique(filled).tolist(),
                        "distinct": distinct}  # fmt: skip
    kept = [spellings[i] for i in vocabulary.keep(counts)]
    ordered = sorted(kept, key=(lambda text: float(text)) if source == "number" else None)
    return found | {"levels": ordered, "other": distinct - len(kept)}


def _several(name: str, series: pd.Series, vocabulary: Vocabulary) -> Column:
    """A column whose cells hold several values each."""
    separator = vocabulary.separators[name]
    codes, cells = values.levels(series.infer_objects())
    rows = np.bincount(codes[codes >= 0], minlength=len(cells))
    counts: dict[str, int] = {}
    slots = 0
    for cell, count in zip(cells, rows.tolist(), strict=True):
        inside = parted(cell, separator) if count else []
        slots = max(slots, len(inside))
        for value in inside:
            counts[value] = counts.get(value, 0) + count
    if not counts:
        return Column(name, "empty", {"why": "every value is missing"})
    found = _coded(list(counts), np.array(list(counts.values())), "text", vocabulary)
    detail = {"missing": int((codes < 0).sum()), "separator": separator, "slots": slots}
    return Column(name, "category", detail | found)


def _content(series: pd.Series) -> bytes:
    """A digest of the values: equal for equal content, whatever the type."""
    digest = hashlib.blake2b(digest_size=16)
    if values.is_numeric(series):
        found = values.floats(series) + 0.0  # no negative zero
        digest.update(np.where(np.isnan(found), np.nan, found).tobytes())
        return digest.digest()
    codes, spellings = values.levels(series)
    _, first, again = np.unique(codes, return_index=True, return_inverse=True)
    digest.update(np.argsort(np.argsort(first))[again].astype(np.int64).tobytes())
    order: Sequence[int] = codes[np.sort(first)].tolist()
    digest.update("\0".join("" if i < 0 else "=" + spellings[i] for i in order).encode())
    return digest.digest()
