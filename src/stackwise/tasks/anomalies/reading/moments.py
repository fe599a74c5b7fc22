"""Moments: what a column of times says, as numbers that grow.

Times become nanoseconds since 1970 in UTC, numbers stay numbers. Whatever the column is, moments
have to grow from row to row: one that goes back, or comes twice, is refused with its row.
"""

from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError
from stackwise.tasks.labelled.values import is_numeric

ZONED = r"\d:\d{2}.*(?:Z|[+-]\d{2}:?\d{2})\s*$"
"""A time of day with a zone behind it."""


def moments_of(column: pd.Series, first_row: int) -> tuple[np.ndarray, str | None]:
    """(L,) int64 nanoseconds or float64 numbers, and the time zone where the column has one.

    Args:
        first_row: the number of the first row, counted from 1, for errors.

    Raises:
        DataError: a row holds no time.
    """
    if is_numeric(column):
        found = column.to_numpy(np.float64)
        if not np.isfinite(found).all():
            row = first_row + int(np.flatnonzero(~np.isfinite(found))[0])
            raise DataError(f"row {row} has no time in {column.name!r}; give each row its moment")
        return found, None
    zone = None
    if not isinstance(column.dtype, pd.DatetimeTZDtype) and column.dtype.kind != "M":
        zone = _offset_of(column)
    elif isinstance(column.dtype, pd.DatetimeTZDtype):
        zone = str(column.dt.tz)
    parsed = _parsed(column)
    if parsed.isna().any():
        place = int(np.flatnonzero(parsed.isna().to_numpy())[0])
        raise DataError(
            f"row {first_row + place} has {column.iloc[place]!r} in {column.name!r}, which is no "
            "time; write times as 2024-05-01 12:00:00"
        )
    return parsed.dt.as_unit("ns").astype("int64").to_numpy(), zone


def _parsed(column: pd.Series) -> pd.Series:
    try:
        return pd.to_datetime(column, utc=True, format="ISO8601", errors="raise")
    except (ValueError, TypeError):
        return pd.to_datetime(column, utc=True, errors="coerce", format="mixed")


def _offset_of(column: pd.Series) -> str | None:
    """The zone that the first text of a column names, as an offset.

    Raises:
        DataError: some texts name one and others do not.
    """
    told = column.astype(str).str.contains(ZONED)
    if told.any() and not told.all():
        with_one, without = column[told].iloc[0], column[~told].iloc[0]
        raise DataError(
            f"column {column.name!r} has times with a zone, {with_one}, and without, {without}: "
            "write all alike"
        )
    try:
        zone = pd.Timestamp(column.iloc[0]).tz
    except (ValueError, TypeError, IndexError):
        return None
    return None if zone is None else str(zone)


def check_growing(moments: np.ndarray, last: Any, shown: pd.Series, first_row: int) -> None:
    """Refuse moments that go back or come twice.

    Args:
        last: the moment before them, or None. shown: how the source writes them.

    Raises:
        DataError: the sentence names the row.
    """
    before = np.concatenate([[last], moments[:-1]]) if last is not None else moments[:-1]
    after = moments if last is not None else moments[1:]
    wrong = np.flatnonzero(after <= before)
    if not len(wrong):
        return
    place = int(wrong[0]) + (0 if last is not None else 1)
    row, text = first_row + place, shown.iloc[place]
    if after[wrong[0]] == before[wrong[0]]:
        raise DataError(
            f"rows {row - 1} and {row} have the same time {text}: keep one row a moment, or name "
            "the column of the channels with --channel"
        )
    raise DataError(
        f"time goes backwards at row {row} ({text} comes after a later one): sort the rows by "
        "their time"
    )


def step_of(text: str, *, dated: bool) -> float:
    """A step such as `1s`, `5min` or, among numbers, `0.5`, in the unit of the moments.

    Raises:
        DataError: it is none.
    """
    try:
        found = float(pd.Timedelta(text).value) if dated else float(text)
    except ValueError:
        example = "1s or 5min" if dated else "a number such as 0.5"
        raise DataError(f"--step {text} is no step of these moments; give {example}") from None
    if not found > 0:
        raise DataError(f"--step {text} is no step of time; give one above 0")
    return found


def moment_named(text: str, moments: np.ndarray, zone: str | None) -> float:
    """A moment that a user names, in the unit of the moments; a time without a zone is in theirs.

    Raises:
        DataError: it is none.
    """
    if moments.dtype.kind == "f":
        try:
            return float(text)
        except ValueError:
            raise DataError(
                f"{text!r} is no moment of this series, whose moments are numbers"
            ) from None
    try:
        found = pd.Timestamp(text)
    except ValueError:
        raise DataError(f"{text!r} is no time; write it as 2024-05-01T12:00") from None
    if found is pd.NaT:
        raise DataError(f"{text!r} is no time; write it as 2024-05-01T12:00")
    found = found.tz_localize(zone or "UTC") if found.tz is None else found
    return float(found.value)


def written(moments: np.ndarray, zone: str | None, joint: str = " ") -> list[Any]:
    """Moments as a reader knows them: numbers, or ISO texts in their zone, `joint` between day and
    time of day.
    """
    if moments.dtype.kind == "f":
        return [int(one) if float(one).is_integer() else float(one) for one in moments]
    stamps = pd.to_datetime(moments, utc=True)
    stamps = stamps.tz_convert(zone) if zone else stamps.tz_localize(None)
    return [one.isoformat(sep=joint) for one in stamps]
