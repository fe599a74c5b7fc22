"""Pictures as networks take them: float32, brought to a size and normalised, when rows are asked
for.

    x = (scaled - mean[c]) / std[c],    scaled = bytes / 255, or floats as they are

Nothing is copied but the rows that are asked for, so that bytes stay bytes and pictures on the disk
stay there.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Size = tuple[int, int]
BLOCK = 256
MEASURED = 10_000
"""Pictures, drawn at random, from which mean and deviation are taken where there are more."""


class Pixels:
    """Rows of pictures as tensors.

    Attributes:
        shape: (n, C, H, W), after they were brought to their size.
        dtype: float32.
    """

    dtype = torch.float32

    def __init__(self, pictures: Any, mean: np.ndarray, std: np.ndarray, size: Size) -> None:
        """Args:
        pictures: (n, C, h, w) uint8 or float array, or `Pictures`.
        mean, std: (C,) of the training pictures, scaled. size: (H, W) that the network takes.
        """
        self.pictures = pictures
        self.mean = torch.as_tensor(mean, dtype=torch.float32).view(1, -1, 1, 1)
        self.std = torch.as_tensor(std, dtype=torch.float32).view(1, -1, 1, 1)
        self.size = size
        self.shape = (len(pictures), self.mean.shape[1], *size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Tensor:
        """(k, C, H, W) normalised pictures of a slice or of (k,) row numbers."""
        return self.normalised(self.sized(self.scaled(rows)))

    def scaled(self, rows: Any) -> Tensor:
        """(k, C, h, w) float32: bytes from 0 to 1, floats as they are."""
        places = rows.numpy() if isinstance(rows, Tensor) else rows
        return scaled(self.pictures[places])

    def stream(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """`scaled` of each batch of row numbers, in turn; what lies on the disk is read ahead."""
        places = (rows.numpy() for rows in batches)
        if isinstance(self.pictures, np.ndarray):
            return (scaled(self.pictures[rows]) for rows in places)
        return map(scaled, self.pictures.stream(places))

    def sized(self, pictures: Tensor) -> Tensor:
        """The same at the network's size."""
        if tuple(pictures.shape[-2:]) == self.size:
            return pictures
        return functional.interpolate(pictures, size=self.size, mode="nearest")

    def normalised(self, pictures: Tensor) -> Tensor:
        """Mean 0 and deviation 1 a channel, over the training pictures.

        The strides are those of (B, C, H, W) in order. With one channel other strides mean the
        same memory, torch takes them for channels that come last, and the gradient of its
        convolutions of few channels then writes beyond its memory (torch 2.13, oneDNN, CPU).
        """
        # grey pictures become all channels of a network that wants several
        found = torch.empty(torch.broadcast_shapes(pictures.shape, self.mean.shape))
        return torch.sub(pictures, self.mean, out=found).div_(self.std)

    def scaled_again(self, pixels: Tensor, size: Sequence[int]) -> Tensor:
        """The inverse of `normalised`, and of `sized` where pictures came in at another size."""
        found = pixels.detach().cpu().float() * self.std + self.mean
        if tuple(found.shape[-2:]) == tuple(size):
            return found
        return functional.interpolate(found, size=tuple(size), mode="nearest")


def for_transformers(pictures: Any, config: Any) -> Pixels:
    """Pictures as a vision model of transformers takes them."""
    size = getattr(config, "image_size", 224)
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    channels = int(getattr(config, "num_channels", 3))
    half = np.full(channels, 0.5)
    return Pixels(pictures, half, half, (height, width))


def scaled(pictures: np.ndarray) -> Tensor:
    """(k, C, h, w) float32: bytes from 0 to 1, floats as they are."""
    tensor = torch.from_numpy(np.ascontiguousarray(pictures))
    return tensor.float().div_(255) if tensor.dtype == torch.uint8 else tensor.float()


def statistics(pictures: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(C,) mean and deviation of scaled pictures; a channel that never varies has deviation 1.

    Args:
        seed: of the draw, where there are more than `MEASURED`.
    """
    rows = np.arange(len(pictures))
    if len(rows) > MEASURED:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:MEASURED])
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for block in _blocks(rows):
        found = scaled(pictures[block]).double()
        count += found[:, 0].numel()
        total = total + found.sum((0, 2, 3))
        squares = squares + found.square().sum((0, 2, 3))
    mean = np.asarray(total) / count
    spread = np.sqrt(np.clip(np.asarray(squares) / count - mean**2, 0, None))
    return mean, np.where(spread > 1e-8 * np.maximum(np.abs(mean), 1.0), spread, 1.0)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]
