"""A series piece by piece: moments that grow, channels without holes, and where stretches begin.

A stretch is a run of moments that follow each other; no window crosses from one into the next. One
begins behind a jump in time of more than `max_gap` steps, and behind moments at which a value is
missing for longer than `fill` moments. A piece is what a block of rows of the source becomes, so
that memory does not grow with the file.
"""

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError
from stackwise.marks import is_named
from stackwise.tasks.anomalies.reading.choices import Reading
from stackwise.tasks.anomalies.reading.grid import Grid
from stackwise.tasks.anomalies.reading.long import wide_of
from stackwise.tasks.anomalies.reading.moments import check_growing, moments_of, step_of
from stackwise.tasks.labelled.values import is_numeric
from stackwise.tasks.table.source import CHUNK, as_frame, read_chunks, read_table, with_index

TIMED = re.compile(r"\d{4}-\d{2}-\d{2}|\d{1,2}:\d{2}")
"""A date or a time of day."""
JOINED = re.compile(r"\d{4}-\d{2}-\d{2}T")
"""A date with its time of day behind a T."""
LOOKED_AT = 10_000
"""Moments at the start of a series whose median distance is its usual one."""


@dataclass
class Piece:
    """Some moments of a series, in their order.

    Attributes:
        values: (L, n) float64; 0 where `missing`.
        moments: (L,) int64 nanoseconds or float64 numbers.
        begins: (L,) bool: a stretch begins here.
        missing: (L,) bool: a value is missing, and nothing can be said of this moment.
        labels: (L,) bool: it is an anomaly; None where the source does not say.
        filled: values that were replaced by the last one before.
    """

    values: np.ndarray
    moments: np.ndarray
    begins: np.ndarray
    missing: np.ndarray
    labels: np.ndarray | None
    filled: int = 0

    def __len__(self) -> int:
        return len(self.moments)


def pieces(source: Any, reading: Reading, *, rows: int = CHUNK) -> "Pieces":
    """The pieces of a source: a file, the name of a series, a frame or an array (T, n).

    Raises:
        DataError: it cannot be read as a series; the sentence says why.
    """
    frames, attrs = _frames(source, reading, rows)
    return Pieces(frames, reading.said_by(attrs), attrs)


def _frames(
    source: Any, reading: Reading, rows: int
) -> tuple[Iterator[pd.DataFrame], dict[str, Any]]:
    if is_named(source, "anomalies"):
        from stackwise import data

        frame = data.anomalies(os.fspath(source))
        return _cut(frame, rows), {str(key): value for key, value in frame.attrs.items()}
    if reading.channel is not None:
        frame = read_table(source) if isinstance(source, (str, os.PathLike)) else as_frame(source)
        return _cut(wide_of(frame, reading), rows), {}
    if isinstance(source, (str, os.PathLike)):
        if not Path(source).is_file():
            from stackwise import data
            from stackwise.errors import nearest

            names = [entry.name for entry in data.names("anomalies")]
            raise DataError(
                f"there is no file or series {os.fspath(source)!r}.{nearest(str(source), names)}"
            )
        return read_chunks(source, rows=rows), {}
    return _cut(with_index(as_frame(source)), rows), {}


def _cut(frame: pd.DataFrame, rows: int) -> Iterator[pd.DataFrame]:
    if not len(frame):
        raise DataError("a series without a row holds no moment")
    return (frame.iloc[start : start + rows] for start in range(0, len(frame), rows))


class Pieces:
    """Reads frames one after another; what it found out stands in its attributes.

    Attributes:
        reading: as it was told, with the usual distance of two moments once that is known.
        channels: the names of the channels, in their order.
        zone: the time zone of the moments, where they have one.
        joint: what stands between day and time of day in the source's texts, a space or a T.
        attrs: what a named series says of itself.
    """

    def __init__(
        self, frames: Iterator[pd.DataFrame], reading: Reading, attrs: dict[str, Any]
    ) -> None:
        self.frames, self.reading, self.attrs = frames, reading, attrs
        self.channels: list[str] = []
        self.zone: str | None = None
        self.joint = " "
        self._row = 1
        self._last: Any = None
        self._tail: pd.DataFrame | None = None
        self._after_missing = False
        self._grid: Grid | None = None
        self._wanted: list[str] | None = None

    def expecting(self, channels: list[str]) -> "Pieces":
        """Take just these channels, in this order."""
        self._wanted = list(channels)
        return self

    def __iter__(self) -> Iterator[Piece]:
        for frame in self.frames:
            piece = self._piece(frame)
            if len(piece):
                yield piece
        if self._grid is not None and (rest := self._grid.rest()) is not None:
            yield self._made(*rest)

    def _piece(self, frame: pd.DataFrame) -> Piece:
        frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
        if not self.channels:
            self.channels = self._channels_of(frame)
        values = self._numbers(frame)
        self._check_holes(values)
        labels = self._labels(frame)
        moments, shown = self._moments(frame)
        check_growing(moments, self._last, shown, self._row)
        before, self._last = self._last, moments[-1]
        self._row += len(frame)
        if self._grid is None and self.reading.step is not None:
            dated = moments.dtype.kind == "i"
            self._grid = Grid(step_of(self.reading.step, dated=dated), self.reading.max_gap)
        if self._grid is not None:
            return self._made(*self._grid.put(moments, values, labels))
        return self._made(moments, values, labels, self._jumps(moments, before), 0)

    def _channels_of(self, frame: pd.DataFrame) -> list[str]:
        reading = self.reading
        for name in (reading.time, *reading.ignore):
            if name is not None and name not in frame:
                raise DataError(f"there is no column {name!r}; there is {_listed(frame)}")
        if reading.label is not None and reading.label not in frame and self._wanted is None:
            raise DataError(f"there is no column {reading.label!r}; there is {_listed(frame)}")
        found = [name for name in frame if name not in reading.special]
        if self._wanted is not None:
            lacking = [name for name in self._wanted if name not in found]
            if lacking:
                raise DataError(
                    f"the channel {lacking[0]!r} is missing: the detector learned "
                    f"{len(self._wanted)} channels, {', '.join(self._wanted[:8])}"
                )
            strange = [name for name in found if name not in self._wanted]
            if strange:
                warnings.warn(
                    f"columns that the detector did not learn are left out: "
                    f"{', '.join(strange[:8])}", stacklevel=2
                )  # fmt: skip
            return list(self._wanted)
        if not found:
            raise DataError("there is no channel beside the columns that were named")
        return found

    def _numbers(self, frame: pd.DataFrame) -> pd.DataFrame:
        """(L, n) float64 with NaN where a cell is empty."""
        lacking = [name for name in self.channels if name not in frame]
        if lacking:
            raise DataError(f"the channel {lacking[0]!r} is missing from row {self._row} on")
        for name in self.channels:
            column = frame[name]
            if not is_numeric(column) and column.notna().any() and column.dtype.kind != "b":
                cell = column.dropna().iloc[0]
                timed = self.reading.time is None and TIMED.search(str(cell)) is not None
                told = f"name the column of the moments with --time {name}" if timed else (
                    f"leave the column out with --ignore {name}"
                )  # fmt: skip
                raise DataError(f"the channel {name!r} holds {cell!r}, which is no number: {told}")
        values = frame[self.channels].astype(np.float64).reset_index(drop=True)
        array = values.to_numpy()
        if np.isinf(array).any():
            row, place = np.argwhere(np.isinf(array))[0]
            raise DataError(
                f"the channel {self.channels[place]!r} is infinite in row {self._row + row}"
            )
        return values

    def _check_holes(self, values: pd.DataFrame) -> None:
        """Refuse an empty cell where nothing may stand for it, and a channel without any value."""
        empty = values.isna().to_numpy()
        if not empty.any():
            return
        row, place = np.argwhere(empty)[0]
        without = [name for name in self.channels if values[name].isna().all()]
        if without and len(values) > 1:
            raise DataError(
                f"the channel {without[0]!r} has no value in rows {self._row} to "
                f"{self._row + len(values) - 1}: leave it out with --ignore {without[0]}"
            )
        if not self.reading.fill:
            raise DataError(
                f"the channel {self.channels[place]!r} has no value (NaN) in row "
                f"{self._row + row}; with --fill N the last value stands for up to N moments"
            )

    def _labels(self, frame: pd.DataFrame) -> np.ndarray | None:
        name = self.reading.label
        if name is None or name not in frame:
            return None
        column = frame[name]
        if column.dtype.kind == "b":
            return column.to_numpy(bool)
        if not is_numeric(column) or not column.isin([0, 1]).all():
            odd = column[~column.isin([0, 1])].tolist()[0]
            raise DataError(
                f"the label column {name!r} holds {odd!r}; it has 1 at an anomaly and 0 elsewhere"
            )
        return column.to_numpy() == 1

    def _moments(self, frame: pd.DataFrame) -> tuple[np.ndarray, pd.Series]:
        name = self.reading.time
        if name is None:
            numbered = np.arange(self._row - 1, self._row - 1 + len(frame), dtype=np.float64)
            return numbered, pd.Series(numbered)
        if name not in frame:
            raise DataError(f"there is no column {name!r}; there is {_listed(frame)}")
        moments, zone = moments_of(frame[name], self._row)
        self.zone = self.zone or zone
        self.joint = "T" if JOINED.match(str(frame[name].iloc[0])) else " "
        return moments, frame[name]

    def _jumps(self, moments: np.ndarray, before: Any) -> np.ndarray:
        """(L,) whether more than `max_gap` usual steps lie before a moment."""
        if self.reading.usual is None:
            usual = float(np.median(np.diff(moments[:LOOKED_AT]))) if len(moments) > 1 else 1.0
            self.reading = replace(self.reading, usual=usual)
        assert self.reading.usual is not None
        most = (self.reading.max_gap + 1) * self.reading.usual * 1.000001
        first = moments[0] if before is None else before
        jumps = np.diff(moments, prepend=first) > most
        jumps[0] |= before is None
        return np.asarray(jumps)

    def _made(
        self,
        moments: np.ndarray,
        values: pd.DataFrame,
        labels: np.ndarray | None,
        begins: np.ndarray,
        filled: int,
    ) -> Piece:
        """A piece, its empty cells filled as far as is allowed."""
        whole = values
        if self._tail is not None:
            whole = pd.concat([self._tail, values], ignore_index=True)
        kept = len(whole) - len(values)
        holes = int(values.isna().to_numpy().sum())
        if holes:
            stretch = np.concatenate([np.zeros(kept, int), np.cumsum(begins)])
            full = whole.groupby(stretch).ffill(limit=self.reading.fill).iloc[kept:]
        else:
            full = values
        array = full.to_numpy(np.float64)
        missing = np.isnan(array).any(axis=1)
        if self.reading.fill:
            opens = np.flatnonzero(begins)  # nothing is filled from before these
            first = max(len(whole) - self.reading.fill, kept + opens[-1] if len(opens) else 0)
            self._tail = whole.iloc[first:].reset_index(drop=True)
        left = int(np.isnan(array).sum())
        after = np.concatenate([[self._after_missing], missing[:-1]])
        if len(missing):
            self._after_missing = bool(missing[-1])
        array = np.where(missing[:, None], 0.0, array)
        begins = (begins | after) & ~missing
        return Piece(array, moments, begins, missing, labels, filled + holes - left)


def _listed(frame: pd.DataFrame) -> str:
    names = [str(name) for name in frame.columns]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
