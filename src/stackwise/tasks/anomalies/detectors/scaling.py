"""Channels on one scale, by what the normal moments say alone."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Scale = Literal["standard", "minmax", "none"]


@dataclass(frozen=True)
class Scaling:
    """(x - shift) / scale of each channel.

    Attributes:
        shift, scale: (n,) float64.
    """

    shift: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, how: Scale) -> tuple["Scaling", np.ndarray]:
        """The scaling of normal values (T, n), and the places of channels that are constant there,
        whose scale is 1.
        """
        width = values.shape[1]
        low, high = values.min(axis=0), values.max(axis=0)
        shift, scale = np.zeros(width), np.ones(width)
        if how == "standard":
            shift, scale = values.mean(axis=0), values.std(axis=0)
        elif how == "minmax":
            shift, scale = low, high - low
        constant = high == low
        scale = np.where(constant | (scale == 0), 1.0, scale)
        return cls(shift, scale), np.flatnonzero(constant)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(L, n) float32."""
        return ((values - self.shift) / self.scale).astype(np.float32)
