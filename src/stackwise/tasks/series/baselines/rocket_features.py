"""MiniRocket's features: how much of a series lies above a bias, after 84 fixed convolutions.

    kernels    of 9 taps, three of them 2 and six -1: all 84 choices of three
    dilations  spread evenly over 2^0 .. 2^log2((L - 1) / 8), so that the widest kernel spans L
    feature    share of moments t with (x * w_k,d)(t) > b          b a quantile of x * w_k,d
               on one training series, the quantiles of low discrepancy: (i * golden ratio) mod 1

Every second kernel and dilation leaves the padded ends out. With several channels a kernel reads a
random choice of them, summed. A series that ends earlier is judged by its own moments alone.

Source: arXiv 2012.08791, and the package aeon, whose numbers are met (tests/tasks/series).
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

TAPS = 9
MOST_DILATIONS = 32
AT_ONCE = 1 << 22
"""Numbers of a convolved block."""


def kernels() -> Tensor:
    """(84, 9) float32 weights."""
    made = -torch.ones(84, TAPS)
    for row, places in enumerate(combinations(range(TAPS), 3)):
        made[row, list(places)] = 2.0
    return made


@dataclass(frozen=True)
class Rocket:
    """Fitted features.

    Attributes:
        dilations, counts: (D,) int64, and features of a kernel at each.
        channels: (D, 84, C) bool, those that a kernel reads.
        biases: (F,) float32, by dilation, then kernel.
    """

    dilations: Tensor
    counts: Tensor
    channels: Tensor
    biases: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """What is kept."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @torch.no_grad()
    def features(self, values: Tensor, lengths: Tensor) -> Tensor:
        """(n, F) float32 shares, of (n, C, L) values and (n,) lengths."""
        rows = max(1, AT_ONCE // (84 * values.shape[2]))
        parts = zip(values.split(rows), lengths.split(rows), strict=True)
        return torch.cat([self._block(x, length) for x, length in parts])

    def _block(self, x: Tensor, lengths: Tensor) -> Tensor:
        found, start = [], 0
        for place, dilation in enumerate(self.dilations.tolist()):
            count = int(self.counts[place])
            biases = self.biases[start : start + 84 * count].view(84, count)
            start += 84 * count
            convolved = convolve(x, dilation, self.channels[place])
            inside = _inside(lengths, x.shape[2], place, dilation)
            share = inside / inside.sum(-1, keepdim=True)  # (n, 84, L)
            found.append(
                torch.stack(
                    [((convolved > biases[:, i : i + 1]) * share).sum(-1) for i in range(count)], -1
                ).flatten(1)
            )
        return torch.cat(found, 1)


def convolve(x: Tensor, dilation: int, channels: Tensor) -> Tensor:
    """(n, C, L) -> (n, 84, L): all kernels at a dilation, each summed over its channels."""
    reach = TAPS // 2 * dilation
    padded = functional.pad(x, (reach, reach))
    length = x.shape[2]
    shifted = [padded[:, :, i * dilation : i * dilation + length] for i in range(TAPS)]
    weight = kernels()[:, None] * channels[..., None]  # (84, C, 9)
    return weight.flatten(1) @ torch.stack(shifted, 2).flatten(1, 2)


def _inside(lengths: Tensor, width: int, place: int, dilation: int) -> Tensor:
    """(n, 84, L) float32: 1 where a moment counts for a kernel."""
    moments = torch.arange(width)
    reach = TAPS // 2 * dilation
    whole = moments < lengths[:, None]
    inner = (moments >= reach) & (moments < lengths[:, None] - reach)
    inner = torch.where(inner.any(1, keepdim=True), inner, whole)
    ends_count = ((torch.arange(84) + place) % 2 == 0)[:, None]
    return torch.where(ends_count, whole[:, None], inner[:, None]).float()


def fit_rocket(values: Tensor, lengths: Tensor, features: int, seed: int) -> Rocket:
    """Settle dilations, channels and biases on training series (n, C, L), L at least 9."""
    generator = np.random.default_rng(seed)
    channels = values.shape[1]
    dilations, counts = dilations_of(values.shape[2], features)
    most = np.log2(min(channels, TAPS) + 1)
    picked = torch.zeros(len(dilations), 84, channels, dtype=torch.bool)
    for row in picked.view(-1, channels):
        count = int(2 ** generator.uniform(0, most))
        row[torch.from_numpy(generator.choice(channels, count, replace=False))] = True
    quantiles = torch.from_numpy(low_discrepancy(84 * int(counts.sum())))
    biases, start = [], 0
    for place, (dilation, count) in enumerate(
        zip(dilations.tolist(), counts.tolist(), strict=True)
    ):
        rows = torch.from_numpy(generator.integers(0, len(values), 84))
        for kernel, row in enumerate(rows.tolist()):
            one = values[row : row + 1, :, : int(lengths[row])]
            convolved = convolve(one, dilation, picked[place])[0, kernel]
            wanted = quantiles[start : start + count]
            biases.append(torch.quantile(convolved, wanted))
            start += count
    return Rocket(torch.from_numpy(dilations), torch.from_numpy(counts), picked, torch.cat(biases))


def dilations_of(length: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """(D,) int64 dilations for series of a length, and how many features a kernel has at each."""
    each = max(features // 84, 1)
    most = min(each, MOST_DILATIONS)
    spread = np.logspace(0, np.log2((length - 1) / (TAPS - 1)), most, base=2).astype(np.int64)
    dilations, counts = np.unique(spread, return_counts=True)
    counts = (counts * (each / most)).astype(np.int64)
    lacking = each - int(counts.sum())
    counts += lacking // len(counts)
    counts[: lacking % len(counts)] += 1
    return dilations, counts


def low_discrepancy(count: int) -> np.ndarray:
    """(count,) float32 from 0 to 1: multiples of the golden ratio, without their whole part."""
    ratio = (np.sqrt(5) + 1) / 2
    return ((np.arange(1, count + 1) * ratio) % 1).astype(np.float32)
