"""What a detector is given to learn from, whatever form it comes in; and what it is asked about."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError
from stackwise.tasks.anomalies.reading.choices import Reading
from stackwise.tasks.labelled.values import is_numeric
from stackwise.tasks.table.source import as_frame, with_index


@dataclass(frozen=True)
class Normal:
    """Normal moments.

    Attributes:
        stretches: (T, n) float64 each, of moments that follow each other.
        reading: how a new source is read. source: where this one lies, or None.
    """

    stretches: list[np.ndarray]
    channels: list[str]
    reading: Reading
    source: str | None = None

    @property
    def longest(self) -> int:
        """The moments of the longest stretch."""
        return max((len(one) for one in self.stretches), default=0)


def normal_of(X: Any) -> Normal:
    """The normal moments of a task, an array, a frame, or a list of these, a stretch each.

    Raises:
        DataError: a value is no number, or there is none.
    """
    if hasattr(X, "normal"):
        found: Normal = X.normal()
        return found
    several = isinstance(X, (list, tuple)) and len(X) > 0 and np.ndim(X[0]) == 2
    parts = list(X) if several else [X]
    channels = channels_of(parts[0])
    stretches = [values_of(one, channels) for one in parts]
    if not sum(map(len, stretches)):
        raise DataError("a series without a row holds no moment to learn from")
    return Normal(stretches, channels, Reading())


def channels_of(X: Any) -> list[str]:
    """The names of the channels: of a frame its columns, of an array x0, x1, ..."""
    frame = framed(X)
    return [str(name) for name in frame.columns]


def framed(X: Any) -> pd.DataFrame:
    """A frame of what a series in memory may be."""
    if isinstance(X, (str, os.PathLike)):
        raise DataError(
            f"{os.fspath(X)!r} is a path: AnomaliesTask.load reads it, write_predictions scores it"
        )
    if isinstance(X, (list, tuple)):
        try:
            X = np.asarray(X, dtype=np.float64)
        except ValueError:
            raise DataError("the rows of a series have one number a channel, all alike") from None
    return with_index(as_frame(X))


def values_of(X: Any, channels: list[str]) -> np.ndarray:
    """(T, n) float64 of these channels.

    Raises:
        DataError: other channels, or a value that is no number.
    """
    frame = framed(X)
    named = [str(name) for name in frame.columns]
    if isinstance(X, pd.DataFrame) or hasattr(X, "columns"):
        lacking = [name for name in channels if name not in named]
        if lacking:
            raise DataError(f"the channel {lacking[0]!r} is missing")
        frame = frame.set_axis(named, axis=1)
        strange = [name for name in named if name not in channels]
        if strange:
            raise DataError(f"{strange[0]!r} is no channel that was learned: leave it out")
        frame = frame[channels]
    elif len(named) != len(channels):
        raise DataError(f"got {len(named)} channels, fitted on {len(channels)}")
    for name in frame:
        if not is_numeric(frame[name]) and frame[name].dtype.kind != "b":
            raise DataError(
                f"the channel {name!r} holds {frame[name].iloc[0]!r}, which is no number"
            )
    values = frame.to_numpy(np.float64)
    if not np.isfinite(values).all():
        row, place = np.argwhere(~np.isfinite(values))[0]
        what = "NaN" if np.isnan(values[row, place]) else "an infinite value"
        raise DataError(f"{what} in channel {channels[place]!r} at step {row}")
    return values
