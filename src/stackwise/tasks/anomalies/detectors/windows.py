"""Windows over a series: each of `window` moments that follow each other, one ending at a moment.

No window crosses from one stretch into the next. A window is a view (n, window) of the values, so
that memory does not grow with its length; a batch copies its own windows alone.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from stackwise.errors import DataError
from stackwise.training.batches import epoch_generator


def windows_of(values: Tensor, window: int) -> Tensor:
    """(T, n) -> (T - window + 1, n, window), a view; window t ends at moment t + window - 1."""
    return values.unfold(0, window, 1)


class WindowBatches:
    """Windows over stretches, in a new order each epoch, which depends on (seed, epoch) alone."""

    def __init__(
        self,
        stretches: Sequence[np.ndarray],
        window: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        lengths = [len(one) for one in stretches]
        longest = max(lengths, default=0)
        if longest < window:
            raise DataError(f"the series has {longest} moments in a row, window is {window}")
        self.values = torch.from_numpy(np.concatenate(stretches))
        offsets = np.cumsum([0, *lengths[:-1]])
        self.starts = torch.from_numpy(
            np.concatenate([
                np.arange(first, first + length - window + 1)
                for first, length in zip(offsets, lengths, strict=True)
                if length >= window
            ])
        )  # fmt: skip
        self.window, self.batch_size, self.seed, self.shuffle = window, batch_size, seed, shuffle

    def __len__(self) -> int:
        return -(-len(self.starts) // self.batch_size)

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """`windows` (B, n, window) of epoch `index` from step `start` on; the last batch may be
        smaller.
        """
        order = self.starts
        if self.shuffle:
            order = order[torch.randperm(len(order), generator=epoch_generator(self.seed, index))]
        view = windows_of(self.values, self.window)
        for first in range(start * self.batch_size, len(order), self.batch_size):
            yield {"windows": view[order[first : first + self.batch_size]]}
