"""Read one column as training did: as numbers, days, codes or hashed words.

A value that cannot be read is an error that names it, unless training had such values too and
took them as missing.
"""

import math
import re
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError
from stackwise.tasks.labelled import numerals, values
from stackwise.tasks.table.reading.columns import Column
from stackwise.tasks.table.reading.vocabulary import buckets, parted


def numbers(column: Column, series: pd.Series) -> np.ndarray:
    """A column of numbers as (n,) float64, missing as NaN."""
    if values.is_numeric(series):
        return values.floats(series)
    if pd.api.types.is_timedelta64_dtype(series.dtype):
        return series.dt.total_seconds().to_numpy(np.float64)
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        raise DataError(f"column {column.name!r} held numbers in training and now holds dates")
    if pd.api.types.is_bool_dtype(series.dtype):
        return series.to_numpy(np.float64, na_value=np.nan)
    return _spread_texts(
        column, series, lambda texts: numerals.numbers(texts, column.detail.get("decimal", "."))
    )


def dates(column: Column, series: pd.Series) -> np.ndarray:
    """A column of dates as days since 1970, (n,) float64, missing as NaN."""
    if isinstance(series.dtype, pd.PeriodDtype) or pd.api.types.is_datetime64_any_dtype(
        series.dtype
    ):
        return values.stamp_days(series)
    if values.is_numeric(series) and not series.isna().all():
        raise DataError(f"column {column.name!r} held dates in training and now holds numbers")
    fmt = column.detail["format"] or "ISO8601"
    return _spread_texts(column, series, lambda texts: values.days(texts, fmt))


def _spread_texts(column: Column, series: pd.Series, read: Any) -> np.ndarray:
    """Read the distinct texts of a column and spread them over its rows."""
    codes, spellings = values.levels(series)
    found = np.append(read(spellings), np.nan) if spellings else np.array([np.nan])
    if not column.detail["unreadable"]:
        for place in np.flatnonzero(np.isnan(found[:-1])):
            if spellings[place].lower() not in values.MISSING_WORDS:
                what = "dates" if column.kind == "date" else "numbers"
                raise DataError(
                    f"column {column.name!r} held {what} in training and now holds "
                    f"{spellings[place]!r}; leave a missing value empty"
                )
    return found[codes]


def cardinality(column: Column) -> int:
    """The codes of a category: its levels, the pooled rare ones, and missing where it was seen.

    A column of several values has no code for missing: it is a row without values.
    """
    missing = bool(column.detail["missing"] or column.detail.get("infinite"))
    if column.kind == "boolean":
        return 2 + missing
    missing = missing and "separator" not in column.detail
    return len(column.places) + bool(column.detail["other"]) + missing


def codes(column: Column, series: pd.Series) -> tuple[np.ndarray, int, str]:
    """The codes of a column, the rows with a value that training did not see, and an example."""
    detail = column.detail
    unseen = cardinality(column)
    missing = unseen - 1 if detail["missing"] or detail.get("infinite") else unseen
    series = series.infer_objects()
    if values.is_numeric(series) and not values.beyond_floats(series):
        series = pd.Series(values.floats(series)).replace([np.inf, -np.inf], np.nan)
    rows, spellings = values.levels(series)
    if column.kind == "boolean":
        found = values.truths(spellings, detail.get("words"))
        found = np.where(found < 0, unseen, found)
    else:
        number = detail["values"] == "number"
        sign = detail.get("decimal", ".")
        known = [_as_number(text, sign) for text in spellings] if number else spellings
        found = _places(column, known)
    if "words" not in detail and detail.get("values") != "text":  # numbers: NA is none of them
        nothing = [text.lower() in values.MISSING_WORDS for text in spellings]
        found = np.where(np.array(nothing, dtype=bool), missing, found)
    strange = rows[np.append(found == unseen, False)[rows]]
    example = spellings[int(strange[0])] if len(strange) else ""
    return np.append(found, missing)[rows], len(strange), example


def several_codes(column: Column, series: pd.Series) -> tuple[np.ndarray, int, str]:
    """The codes of a column whose cells hold several values, (n, slots) int64.

    The code `cardinality` stands where there is no value, or one that training did not see. Cells
    with more values than any of training keep their first ones.

    Returns:
        The codes, the rows with a value that training did not see, and an example of one.
    """
    slots, unseen = column.detail["slots"], cardinality(column)
    rows, cells = values.levels(series.infer_objects())
    found = np.full((len(cells) + 1, slots), unseen, dtype=np.int64)
    strange = np.zeros(len(cells) + 1, dtype=bool)
    example = ""
    for place, cell in enumerate(cells):
        inside = parted(cell, column.detail["separator"])[:slots]
        found[place, : len(inside)] = _places(column, inside)
        new = found[place, : len(inside)] == unseen
        if new.any():
            strange[place] = True
            example = example or inside[int(new.argmax())]
    return found[rows], int(strange[rows].sum()), example


def _places(column: Column, spellings: list[str]) -> np.ndarray:
    """The code of each spelling, of the pooled rare ones, or of those never seen."""
    unseen, places = cardinality(column), column.places
    other = len(places) if column.detail["other"] else unseen
    keys: Any = spellings
    if column.detail.get("buckets"):
        keys = buckets(spellings, column.detail["buckets"]).tolist()
    elif not places.keys() >= set(spellings):  # 2.0 is 2, where no level says 2.0
        keys = [key if key in places else _WHOLE.sub(r"\1", key) for key in spellings]
    return np.array([places.get(key, other) for key in keys], dtype=np.int64)


_WHOLE = re.compile(r"^(-?(?:0|[1-9]\d*))\.0*$")


def _as_number(text: str, decimal: str) -> str:
    """The level of a number that came as text: 2.0 and 2 are one, and long ones stay exact."""
    if text.isdigit():
        return str(int(text))
    read = numerals.number(text, decimal)
    return text if math.isnan(read) or math.isinf(read) else values.level(read)


def hashed(series: pd.Series, width: int) -> np.ndarray:
    """Signed hashed word counts of unit length, (n, width) float32; a missing text is all zeros."""
    from sklearn.feature_extraction.text import HashingVectorizer

    texts = series.astype(object).where(series.notna(), "").map(str)
    return HashingVectorizer(n_features=width, dtype=np.float32).transform(texts).toarray()
