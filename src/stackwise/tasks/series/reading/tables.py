"""Read series from a table: a csv, a parquet file, a frame.

    long     a row is a moment: a column that names the series (`series`), one of time where rows
             are not in order, a column a channel; a target that is the same within a series
    wide     a row is a series: a column a moment, in their order. Names that end in a number
             (acc_0, acc_1, ..., gyr_0, ...) are channels; else all are moments of one channel
    cells    a row is a series, and a cell holds the list of a channel's values
    one      a row is a moment of the one series there is: what is forecast (`horizon`)

A column of the usual names (`series_id`, `unit`, ...) that repeats says by itself that the table is
long. Blank cells are values that were not measured; at the end of a wide row, the series is over.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError, nearest
from stackwise.tasks.labelled import values
from stackwise.tasks.labelled.found import some
from stackwise.tasks.labelled.split import moments_of
from stackwise.tasks.series.series import without_end

NAMES = ("series", "series_id", "case_id", "case", "unit", "unit_id", "machine", "machine_id",
         "id", "item_id", "unique_id")  # fmt: skip
"""Columns that name the series of a long table, the first choice first."""
TIMES = ("time", "timestamp", "time_id", "moment", "date", "datetime", "ds", "cycle", "step", "t")
"""Columns of time, likewise."""
VALUE = "value"
"""What the one channel of rows is called whose columns have no name before their number."""
ODD = 0.5
"""Share of series within which a target may change for its column to be taken for their name."""
LEAST = 3
"""Columns that make a channel of a wide table, at least."""
FEW = 6
"""Columns without a number in their names that are hardly the moments of one channel."""
NUMBERED = re.compile(r"(.*?)[_.\- ]?(\d+)")


@dataclass
class TableSeries:
    """The series of a table.

    Attributes:
        values: n arrays (C, length). channels: their names. names: what each series is called.
        rows: a row a series: what else the table says of it, the target among it.
        times: of a long table the moments of each series as they stand there.
        named: of a long table the column that names its series.
        places: of a long table the rows of each series, in the order of its moments.
        layout: long, wide, cells or one.
    """

    values: list[np.ndarray]
    channels: list[str]
    names: list[str]
    rows: pd.DataFrame
    times: list[np.ndarray] | None
    layout: str
    notes: list[str] = field(default_factory=list)
    named: str | None = None
    places: list[np.ndarray] | None = None


def series_of(
    frame: pd.DataFrame,
    *,
    target: str | None,
    series: str | None,
    time: str | None,
    one: bool,
    beside: Sequence[str] = (),
    channels: Sequence[str] | None = None,
    layout: str | None = None,
) -> TableSeries:
    """The series of a table.

    Args:
        target: the column to predict; no channel, unless it is what is forecast (`one`).
        series, time: columns of a long table.
        one: what is asked for is a forecast: rows are moments, and the target is a channel.
        beside: further columns that are no channels, such as that of groups.
        channels: the columns that are channels, where training has settled it.
        layout: that of the training source.

    Raises:
        DataError: a column is missing, or holds what is no number.
    """
    frame = frame.reset_index(drop=True)
    for name in (series, time):
        if name is not None and name not in frame.columns:
            raise DataError(f"there is no column {name!r}.{nearest(name, map(str, frame.columns))}")
    apart = [name for name in (target, *beside) if name is not None and not one]
    known = [name for name in frame.columns if name not in apart]
    cells = [name for name in known if _holds_lists(frame[name])]
    if cells and not one and layout in (None, "cells"):
        return _of_cells(frame, cells, known, channels)
    named = series or (None if layout in ("wide", "one") else _naming(frame, known, target, one))
    if named is not None or one or time is not None or layout == "long":
        return _long(frame, target, named, time, one, apart, channels, said=series is not None)
    return _wide(frame, known, channels, learned=layout == "wide")


def _naming(frame: pd.DataFrame, known: list[Any], target: str | None, one: bool) -> str | None:
    """The column of a usual name that repeats, and within which the target stays the same."""
    by_name = {str(name).lower(): name for name in known}
    for name in NAMES:
        column = by_name.get(name)
        if column is None or not frame[column].duplicated().any():
            continue
        if one or target is None or target not in frame.columns:
            return str(column)
        changes = frame.groupby(column)[target].nunique(dropna=False) > 1
        if changes.mean() <= ODD:
            return str(column)  # where some do change, the sentence says in which series
    return None


def _long(
    frame: pd.DataFrame, target: str | None, series: str | None, time: str | None, one: bool,
    apart: list[str], channels: Sequence[str] | None, *, said: bool,
) -> TableSeries:  # fmt: skip
    notes = []
    if series is not None and not said:
        notes.append(f"column {series!r} names the series, and each row is a moment")
    if time is None:
        by_name = {str(name).lower(): str(name) for name in frame.columns if name not in apart}
        usual = (by_name[name] for name in TIMES if name in by_name)
        time = next((name for name in usual if name != target), None)
        if time is not None:
            notes.append(f"column {time!r} says the order of the moments")
    left = [name for name in frame.columns if name not in (*apart, series, time)]
    wanted, more = _numeric(frame, left, channels)
    notes += more
    keys = frame[series] if series is not None else pd.Series(0, index=frame.index)
    if keys.isna().any():
        raise DataError(f"column {series!r} names no series in {int(keys.isna().sum()):,} rows")
    codes, spellings = pd.factorize(keys)
    ranks = np.arange(len(frame)) if time is None else moments_of(frame[time])
    order = np.lexsort((ranks, codes))
    if time is not None:
        again = (np.diff(codes[order]) == 0) & (np.diff(ranks[order]) == 0)
        if again.any():
            row = order[int(np.flatnonzero(again)[0]) + 1]
            which = f" of series {keys.iloc[row]!r}" if series is not None else ""
            raise DataError(f"the moment {frame[time].iloc[row]!s}{which} stands there twice")
    numbers = np.stack([values.floats(frame[name]) for name in wanted])
    _refuse_infinite(numbers, wanted)
    cuts = np.flatnonzero(np.diff(codes[order])) + 1
    groups = np.split(order, cuts)
    if one and time is not None:
        notes += _gaps(frame[time], ranks, groups)
    first = [group[0] for group in groups]
    kept = [name for name in apart if name in frame.columns]
    for name in kept:
        _steady(frame, name, keys, series)
    moments = [np.asarray(frame[time].iloc[g]) if time is not None else g for g in groups]
    made = [numbers[:, group] for group in groups]
    return TableSeries(
        made if one else [without_end(series) for series in made], [str(name) for name in wanted],
        [str(spellings[codes[group[0]]]) for group in groups] if series is not None else ["series"],
        frame.loc[first, kept].reset_index(drop=True), moments,
        "long" if series is not None else "one", notes, series, groups,
    )  # fmt: skip


def _gaps(times: pd.Series, ranks: np.ndarray, groups: Sequence[np.ndarray]) -> list[str]:
    """A note of moments that lie further apart than usual, since a forecast counts rows."""
    steps = [np.diff(ranks[group]) for group in groups]
    usual = float(np.median(np.concatenate(steps))) if any(map(len, steps)) else 0.0
    wide = [
        (group, int(place)) for group, step in zip(groups, steps, strict=True)
        for place in np.flatnonzero(step > 1.5 * usual)
    ]  # fmt: skip
    if not wide:
        return []
    group, place = wide[0]
    return [
        f"column {str(times.name)!r} jumps {len(wide):,} times, first behind "
        f"{times.iloc[group[place]]!s}: windows and horizons count rows and reach over that"
    ]


def _steady(frame: pd.DataFrame, name: str, keys: pd.Series, series: str | None) -> None:
    found = frame.groupby(keys)[name].nunique(dropna=False)
    if (found > 1).any():
        which = found.index[found > 1][0]
        within = (
            "the one series there is"
            if series is None
            else f"the series {str(which)!r} of {series!r}"
        )
        raise DataError(
            f"column {name!r} changes within {within}; a whole series has one (name the column of "
            "the series with --series, or predict moment by moment with --horizon)"
        )


def _wide(
    frame: pd.DataFrame, known: list[Any], channels: Sequence[str] | None, *, learned: bool
) -> TableSeries:
    moments, notes = _numeric(frame, known, None)
    groups: dict[str, list[tuple[int, Any]]] = {}
    for name in moments:
        match = NUMBERED.fullmatch(str(name))
        if match is not None:
            groups.setdefault(match[1], []).append((int(match[2]), name))
    groups = {name: found for name, found in groups.items() if len(found) >= LEAST}
    numbered = {name for found in groups.values() for _, name in found}
    if 2 * len(numbered) > len(moments):
        others = [str(name) for name in moments if name not in numbered]
        if others:
            notes.append(f"left out, as they are no moments by their names: {some(others)}")
        moments = [name for name in moments if name in numbered]
        groups = {name or VALUE: found for name, found in groups.items()}
    else:
        if len(moments) < FEW and not learned:
            raise DataError(
                f"each row would be a series of {len(moments)} moments, {some(moments)}: where a "
                "row is a moment, name the column that says of which series with --series, or "
                "forecast with --horizon; where it is a series, number the columns of a channel "
                "(x_0, x_1, ...)"
            )
        groups = {VALUE: list(enumerate(moments))}
    names = list(groups)
    if channels is not None and names != list(channels):
        raise DataError(
            f"the table has the channels {some(names)} and training had {some(list(channels))}"
        )
    longest = max(map(len, groups.values()))
    made = np.full((len(frame), len(groups), longest), np.nan)
    for place, name in enumerate(names):
        for moment, (_, column) in enumerate(sorted(groups[name], key=lambda one: one[0])):
            made[:, place, moment] = values.floats(frame[column])
    _refuse_infinite(made, names)
    notes.append(
        f"each row is a series of {longest} moments"
        + (f" in the channels {some(names)}" if len(names) > 1 else "")
    )
    rest = frame.drop(columns=moments)
    rows = [str(row) for row in range(len(frame))]
    return TableSeries([without_end(one) for one in made], names, rows, rest, None, "wide", notes)


def _of_cells(
    frame: pd.DataFrame, cells: list[Any], known: list[Any], channels: Sequence[str] | None
) -> TableSeries:
    names = [str(name) for name in cells] if channels is None else list(channels)
    lacking = [name for name in names if name not in frame.columns]
    if lacking:
        raise DataError(f"there is no column {lacking[0]!r}, which training had")
    made = []
    for row in range(len(frame)):
        lists = [np.atleast_1d(np.asarray(frame[name].iloc[row], float)) for name in names]
        series = np.full((len(lists), max(map(len, lists))), np.nan)
        for place, one in enumerate(lists):
            series[place, : len(one)] = one
        _refuse_infinite(series[None], names)
        made.append(without_end(series) if series.shape[1] else np.full((len(lists), 1), np.nan))
    other = [str(name) for name in known if name not in names]
    notes = [f"left out, as they hold no series: {some(other)}"] if other else []
    rows = [str(row) for row in range(len(frame))]
    return TableSeries(made, names, rows, frame.drop(columns=names), None, "cells", notes)


def _numeric(
    frame: pd.DataFrame, names: list[Any], wanted: Sequence[str] | None
) -> tuple[list[Any], list[str]]:
    """The columns that hold numbers, and a note of the others; or just the wanted ones."""
    if wanted is not None:
        for name in wanted:
            if name not in frame.columns:
                have = nearest(name, map(str, frame.columns))
                raise DataError(f"there is no column {name!r}, which training had.{have}")
            if not _is_number(frame[name]):
                raise DataError(f"column {name!r} holds no numbers, and a channel does")
        return list(wanted), []
    for name in names:
        _refuse_odd_words(frame[name])
    numeric = [name for name in names if _is_number(frame[name])]
    if not numeric:
        listed = some(list(map(str, names)), 8)
        raise DataError(f"no column holds numbers, of which series are made; it has {listed}")
    others = [str(name) for name in names if name not in numeric]
    return numeric, [f"left out, as they hold no numbers: {some(others)}"] if others else []


def _refuse_odd_words(column: pd.Series) -> None:
    """Refuse a column most of whose cells are numbers and some are words."""
    if _is_number(column):
        return
    told = column.dropna()
    if _holds_lists(told) or not len(told):
        return
    read = pd.to_numeric(told, errors="coerce")
    odd = read.isna()
    if odd.any() and odd.mean() < 0.5:
        row = int(np.flatnonzero(column.notna())[int(np.flatnonzero(odd)[0])])
        raise DataError(
            f"column {str(column.name)!r} holds {str(column.iloc[row])!r:.60} in row {row + 1}, "
            "which is no number as the others are: leave such cells blank"
        )


def _is_number(column: pd.Series) -> bool:
    return values.is_numeric(column) or bool(column.isna().all())


def _holds_lists(column: pd.Series) -> bool:
    if column.dtype != object and not str(column.dtype).startswith("list"):
        return False
    first = next((cell for cell in column if isinstance(cell, (list, tuple, np.ndarray))), None)
    return first is not None


def _refuse_infinite(numbers: np.ndarray, names: Sequence[Any]) -> None:
    axis = 0 if numbers.ndim == 2 else 1
    infinite = np.isinf(numbers).any(axis=tuple(i for i in range(numbers.ndim) if i != axis))
    if infinite.any():
        name = names[int(np.flatnonzero(infinite)[0])]
        raise DataError(f"channel {name!r} holds an infinite value; leave the cell empty for none")
