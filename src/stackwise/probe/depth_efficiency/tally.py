"""Means and maxima over tokens and prompts, kept as running sums: no prompt is stored."""

import torch
from torch import Tensor


class Tally:
    """Mean and maximum over the last axis of everything that was added.

    NaN stands for a token that was not measured. Cells that never saw a token are NaN.
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count: Tensor | None = None
        self._max: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Add measurements (..., tokens)."""
        seen = ~values.isnan()
        total = values.double().nan_to_num(0.0).sum(-1)
        high = values.double().masked_fill(~seen, -torch.inf).amax(-1)
        if self._sum is None or self._count is None or self._max is None:
            self._sum, self._count, self._max = total, seen.sum(-1), high
            return
        self._sum = self._sum + total
        self._count = self._count + seen.sum(-1)
        self._max = torch.maximum(self._max, high)

    @property
    def empty(self) -> bool:
        """Nothing was added."""
        return self._sum is None

    @property
    def mean(self) -> Tensor:
        """Sum over count; NaN where nothing was measured."""
        assert self._sum is not None and self._count is not None
        return self._sum / self._count.where(self._count > 0, torch.nan)

    @property
    def max(self) -> Tensor:
        """The largest value; NaN where nothing was measured."""
        assert self._max is not None
        return self._max.where(self._max > -torch.inf, torch.nan)

    def reduced(self, how: str) -> Tensor:
        """`mean` or `max`."""
        return self.mean if how == "mean" else self.max
