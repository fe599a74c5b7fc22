"""Series as networks take them: float32, of one width, on one scale, without gaps.

    x = (value - mean[c]) / std[c]          mean and std of the channel over the training series

A gap is bridged by a straight line between its neighbours; before the first value of a channel and
behind its last one these stay, and a channel without a value is its mean, 0. Behind the end of a
series there are zeros, and `lengths` says where it ends.

Nothing is copied but the rows that are asked for, so that windows over one long series stay views.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stackwise.tasks.series.series import Series

LEAST_WIDTH = 16


class Values:
    """Rows of series as tensors.

    Attributes:
        shape: (n, C, width). dtype: float32.
    """

    dtype = torch.float32

    def __init__(
        self, series: Sequence[np.ndarray], mean: np.ndarray, std: np.ndarray, width: int,
        each: bool = False,
    ) -> None:  # fmt: skip
        """Args:
        series: arrays (C, length) with NaN for gaps. mean, std: (C,) of the training series.
        width: moments of a row. each: each series is on its own scale, and not on that.
        """
        self.series, self.mean, self.std, self.each = series, mean, std, each
        self.shape = (len(series), len(mean), width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Tensor:
        """(k, C, width) of a slice or of (k,) row numbers."""
        places = rows.tolist() if isinstance(rows, Tensor) else np.arange(len(self))[rows].tolist()
        made = np.zeros((len(places), *self.shape[1:]), dtype=np.float32)
        for place, row in enumerate(places):
            one = scaled(self.series[row], self.mean, self.std, self.each)
            made[place, :, : one.shape[1]] = one
        return torch.from_numpy(made)


def scaled(series: np.ndarray, mean: np.ndarray, std: np.ndarray, each: bool) -> np.ndarray:
    """A series (C, length) on its scale, its gaps bridged."""
    if each:
        mean, std = own_scale(series)
    found = (series - mean[:, None]) / std[:, None]
    return bridged(found) if np.isnan(found).any() else found


def bridged(series: np.ndarray) -> np.ndarray:
    """Gaps of (C, length) by straight lines; the ends go on as they are, nothing becomes 0."""
    made = series.copy()
    moments = np.arange(series.shape[1])
    for channel in made:
        gaps = np.isnan(channel)
        if gaps.all():
            channel[:] = 0
        elif gaps.any():
            channel[gaps] = np.interp(moments[gaps], moments[~gaps], channel[~gaps])
    return made


def own_scale(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C,) mean and deviation of one series; where nothing varies, or is known, deviation 1."""
    known = ~np.isnan(series)
    count = np.maximum(known.sum(1), 1)
    mean = np.where(known, series, 0).sum(1) / count
    spread = np.sqrt(np.where(known, series - mean[:, None], 0).__pow__(2).sum(1) / count)
    return mean, _usable(mean, spread)


def statistics(series: Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(C,) mean and deviation of a channel over series, and how many values it has."""
    channels = len(series.channels)
    count, total = np.zeros(channels), np.zeros(channels)
    for one in series.values:
        count += (~np.isnan(one)).sum(1)
        total += np.nansum(one, axis=1)
    mean = total / np.maximum(count, 1)
    squares = np.zeros(channels)
    for one in series.values:
        squares += np.nansum((one - mean[:, None]) ** 2, axis=1)
    return mean, _usable(mean, np.sqrt(squares / np.maximum(count, 1))), count


def _usable(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.where(spread > 1e-8 * np.maximum(np.abs(mean), 1e-300), spread, 1.0)


class PaddedSeries:
    """Series in rows of unequal length, as `stackwise.learning.unequal_rows` takes them.

    Args:
        usual: the longest of the training series: those up to it have this width.
    """

    def __init__(
        self, series: Series, mean: np.ndarray, std: np.ndarray, usual: int, each: bool
    ) -> None:
        self.series, self.mean, self.std, self.usual, self.each = series, mean, std, usual, each

    def __len__(self) -> int:
        return len(self.series)

    @property
    def widths(self) -> np.ndarray:
        """(n,) the width of the training series, or beyond it a power of two."""
        lengths = np.maximum(self.series.lengths, LEAST_WIDTH)
        powers = 2 ** np.ceil(np.log2(lengths)).astype(np.int64)
        return np.where(self.series.lengths <= self.usual, self.usual, powers)

    def padded(self, places: Sequence[int] | np.ndarray, width: int) -> dict[str, Any]:
        """`values` (k, C, width) and `lengths` (k,) of these rows."""
        picked = [self.series.values[place] for place in places]
        lengths = torch.tensor([one.shape[1] for one in picked])
        values = Values(picked, self.mean, self.std, width, self.each)
        return {"values": values, "lengths": lengths}
