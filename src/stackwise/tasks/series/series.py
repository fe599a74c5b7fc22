"""Series as samples: each of some channels and of a length of its own.

    Series([np.ones((2, 30)), np.ones((2, 25))])        two channels, 30 and 25 moments

A value that was not measured is NaN.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import xxhash

from stackwise.errors import DataError


class Series:
    """Rows of series.

    Attributes:
        values: n arrays (C, length) of float32 or float64; NaN where nothing was measured.
        index: (n,) the number of each in its source.
        channels: names of the channels. reading: how the source was read, as JSON.
    """

    def __init__(
        self,
        values: Sequence[np.ndarray],
        index: np.ndarray | None = None,
        channels: Sequence[str] | None = None,
        reading: dict[str, Any] | None = None,
    ) -> None:
        self.values = list(values)
        self.index = np.arange(len(self.values)) if index is None else index
        count = len(self.values[0]) if self.values else 0
        self.channels = list(channels or (f"channel {place}" for place in range(count)))
        self.reading = dict(reading or {})

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> Any:
        """One series (C, length), or the rows of a slice or of (k,) numbers."""
        if isinstance(rows, (int, np.integer)):
            return self.values[rows]
        places = np.arange(len(self))[rows]
        return self.only(places)

    def only(self, rows: np.ndarray) -> Self:
        """These rows."""
        picked = [self.values[row] for row in rows]
        return type(self)(picked, self.index[rows], self.channels, self.reading)

    @classmethod
    def joined(cls, series: "Sequence[Series]") -> "Series":
        """Several, one after the other."""
        values = [one for part in series for one in part.values]
        index = np.concatenate([part.index for part in series])
        return cls(values, index, series[0].channels, series[0].reading)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64 moments of each."""
        return np.array([one.shape[1] for one in self.values], dtype=np.int64)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n, C, the longest length)."""
        return len(self), len(self.channels), int(self.lengths.max(initial=0))

    @property
    def nbytes(self) -> int:
        """Bytes in memory; of windows over one long series, that one counts once."""
        owners = {id(one if one.base is None else one.base): one for one in self.values}
        return sum((one if one.base is None else one.base).nbytes for one in owners.values())

    @property
    def hashes(self) -> np.ndarray:
        """(n,) uint64: equal where series are equal, value for value."""
        found = [
            xxhash.xxh3_64_intdigest(np.ascontiguousarray(one, dtype=np.float64).tobytes())
            for one in self.values
        ]
        return np.array(found, dtype=np.uint64)


def as_values(X: Any) -> list[np.ndarray]:
    """Series from memory as arrays (C, length) of floats.

    Args:
        X: (n, C, length) array; (n, length) of one channel; or a list of arrays (C, length) or
            (length,). What is NaN in all channels to the end of a series lies behind it.

    Raises:
        DataError: it has another shape, holds no numbers or infinite ones, or series differ in
            their channels.
    """
    if isinstance(X, np.ndarray) and X.dtype != object:
        if X.ndim not in (2, 3):
            raise DataError(f"series are (n, channels, length) or (n, length), not {X.shape}")
        found = [_floats(one, place) for place, one in enumerate(X)]
    elif isinstance(X, (list, tuple, np.ndarray)):
        found = [_floats(np.asarray(one), place) for place, one in enumerate(X)]
    else:
        raise DataError(
            f"series are an array (n, channels, length) or a list of arrays (channels, length), "
            f"and this is a {type(X).__name__}"
        )
    if found:
        channels = len(found[0])
        for place, one in enumerate(found):
            if len(one) != channels:
                raise DataError(
                    f"series {place} has {len(one)} channels and series 0 has {channels}; give all "
                    "the same"
                )
    return [without_end(one) for one in found]


def check_channels(values: Sequence[np.ndarray], channels: Sequence[str], names: Sequence) -> None:
    """Refuse series in which a channel has no value at all; one without any value may stand.

    Args:
        names: of the series.

    Raises:
        DataError: there is one; it would be read as one whose channel stands still.
    """
    lacking = []
    for place, one in enumerate(values):
        empty = np.isnan(one).all(1)
        if empty.any() and not empty.all():
            lacking.append((place, int(np.flatnonzero(empty)[0])))
    if lacking:
        place, channel = lacking[0]
        if len(lacking) == len(values):
            raise DataError(
                f"the channel {channels[channel]!r} is missing throughout; leave it out"
            )
        more = f", and so it is in {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
        raise DataError(
            f"the channel {channels[channel]!r} has no value in the series {names[place]}{more}; "
            "leave those series or that channel out"
        )


def without_end(series: np.ndarray) -> np.ndarray:
    """A series up to the last moment at which something was measured, at least one long."""
    if not series.shape[1] or not np.isnan(series[:, -1]).all():
        return series
    measured = np.flatnonzero(~np.isnan(series).all(0))
    return series[:, : measured[-1] + 1] if len(measured) else series[:, :1]


def _floats(array: np.ndarray, place: int) -> np.ndarray:
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"series {place} is {array.shape}; each is (channels, length)")
    if array.dtype not in (np.float32, np.float64):
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"series {place} holds what is no number: {error}") from error
    if np.isinf(array).any():
        raise DataError(f"series {place} holds an infinite value; give a number, or NaN for none")
    return array
