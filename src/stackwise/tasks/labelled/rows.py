"""Samples of any kind, by their rows: a frame of pandas, an array, or what offers `only`.

What is not of pandas has the numbers of its rows in the source as `index`, as a frame has.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd


def joined(samples: Sequence[Any]) -> Any:
    """Samples of one kind, one after the other."""
    first = samples[0]
    if isinstance(first, pd.DataFrame):
        found = pd.concat(list(samples))
        found.attrs = first.attrs
        return found
    return type(first).joined(samples)


def size_of(samples: Any) -> int:
    """Bytes that samples take in memory."""
    if isinstance(samples, pd.DataFrame):
        return int(samples.memory_usage(deep=True).sum())
    return int(samples.nbytes)


def numbers_of(samples: Any) -> np.ndarray:
    """(n,) the number of each sample in its source."""
    return np.asarray(samples.index)
