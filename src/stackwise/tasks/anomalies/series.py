"""A whole series: its values, in memory or where they are many on the disk, and its stretches."""

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stackwise.errors import DataError
from stackwise.tasks.anomalies.reading.choices import Reading
from stackwise.tasks.anomalies.reading.pieces import pieces

HELD = 1 << 30
"""Bytes of values up to which a series is held in memory; a larger one is mapped from the disk."""
AT_ONCE = 1 << 16
"""Rows that are read at a time."""


@dataclass
class Series:
    """A series of n channels at T moments.

    Attributes:
        values: (T, n) float64; 0 where `missing`.
        moments: (T,) nanoseconds or numbers. zone: their time zone.
        begins, missing: (T,) bool; see `stackwise.tasks.anomalies.reading.pieces`.
        labels: (T,) bool, or None.
        filled: values that were replaced by the last one before them.
    """

    values: np.ndarray
    moments: np.ndarray
    begins: np.ndarray
    missing: np.ndarray
    labels: np.ndarray | None
    channels: list[str]
    reading: Reading
    zone: str | None = None
    filled: int = 0
    attrs: dict[str, Any] = field(default_factory=dict)
    _file: Any = None  # the values' file, which is gone when nobody maps it any more

    def __len__(self) -> int:
        return len(self.moments)

    def block(self, start: int, stop: int) -> np.ndarray:
        """(stop - start, n) some rows. What is on the disk is read: pages that are mapped would
        count as memory for as long as the series is there.
        """
        if self._file is None:
            return self.values[start:stop]
        width = self.values.shape[1]
        self._file.seek(start * width * self.values.itemsize)
        read = np.fromfile(self._file, self.values.dtype, (stop - start) * width)
        return read.reshape(-1, width)

    def stretches(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
        """The runs of moments that follow each other, within a span: (start, stop) of each."""
        stop = len(self) if stop is None else stop
        there = ~self.missing[start:stop]
        opens = there & (self.begins[start:stop] | np.append(True, ~there[:-1]))
        firsts = np.flatnonzero(opens)
        holes = np.flatnonzero(~there)
        for place, first in enumerate(firsts):
            end = firsts[place + 1] if place + 1 < len(firsts) else stop - start
            hole = holes[np.searchsorted(holes, first)] if len(holes) and holes[-1] > first else end
            yield start + int(first), start + int(min(end, hole))

    def digest(self) -> str:
        """A hash of the values, the moments and the labels."""
        found = hashlib.sha256(repr((self.channels, self.values.shape)).encode())
        for start in range(0, len(self), AT_ONCE):
            block = self.block(start, min(start + AT_ONCE, len(self)))
            found.update(np.ascontiguousarray(block).tobytes())
        for array in (self.moments, self.begins, self.missing, self.labels):
            if array is not None:
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()[:16]


def read_series(source: Any, reading: Reading, channels: list[str] | None = None) -> Series:
    """Read a whole series.

    Args:
        channels: those that it must have, in this order; None for whatever it has.

    Raises:
        DataError: it cannot be read as a series; the sentence says why.
    """
    reader = pieces(source, reading)
    if channels is not None:
        reader.expecting(channels)
    held = _Held()
    parts: dict[str, list[np.ndarray]] = {"moments": [], "begins": [], "missing": [], "labels": []}
    filled = 0
    for piece in reader:
        held.put(piece.values)
        filled += piece.filled
        for name, found in parts.items():
            one = getattr(piece, name)
            if one is not None:
                found.append(one)
    if not parts["moments"]:
        raise DataError("a series without a row holds no moment")
    joined = {name: np.concatenate(found) for name, found in parts.items() if found}
    return Series(
        held.whole(), joined["moments"], joined["begins"], joined["missing"], joined.get("labels"),
        reader.channels, reader.reading, reader.zone, filled, reader.attrs, held.file,
    )  # fmt: skip


def _nameless_file() -> Any:
    """A file that is gone when the last who maps it is."""
    return tempfile.TemporaryFile(prefix="stackwise-series-")


class _Held:
    """Blocks of rows, in memory as long as they are few, then in a file that has no name."""

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []
        self.bytes, self.rows, self.width = 0, 0, 0
        self.file: Any = None

    def put(self, block: np.ndarray) -> None:
        """Add rows behind those that are there."""
        self.bytes, self.rows = self.bytes + block.nbytes, self.rows + len(block)
        self.width = block.shape[1]
        self.blocks.append(np.ascontiguousarray(block))
        if self.bytes > HELD or self.file is not None:
            self.file = self.file or _nameless_file()
            for one in self.blocks:
                one.tofile(self.file)
            self.blocks = []

    def whole(self) -> np.ndarray:
        """(T, n) all rows."""
        if self.file is None:
            return np.concatenate(self.blocks)
        self.file.flush()
        return np.memmap(self.file, np.float64, "r", shape=(self.rows, self.width))
