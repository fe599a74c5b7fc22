"""Operations of like width, on pictures and on series: what they do is searched, not how large.

    h <- ReLU(h + BN(f(h)))        f a 3-wide convolution, a 5-wide depth-wise one, self-attention
                                    over places, or a 1-wide convolution

The width stays, so that the number of channels decides nothing; parameters still differ. From one
block to the next maps are halved by their means. Series of any length are first brought to a fixed
number of places, by straight lines, so that operations need not know where one ends.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import KnobError
from stackwise.train.bossnas.spaces.choice import Choice
from stackwise.train.bossnas.spaces.space import Space
from stackwise.train.bossnas.spaces.stems import OfPixels, picture_stem

NAMES = ("conv3", "depthwise5", "attention", "conv1")


class OperationSpace(Space):
    """Four operations.

    Args:
        channels: of the pictures or series. size: (H, W), or (places,) of series.
        width: channels. blocks: parts that are searched one after another. layers: of each.
    """

    kind: ClassVar[str] = "operations"

    def __init__(
        self, *, channels: int, size: Any, width: int = 16, blocks: int = 2, layers: int = 3
    ) -> None:
        if width < 1 or blocks < 1 or layers < 1:
            raise KnobError(f"width, blocks and layers are at least 1: {width}, {blocks}, {layers}")
        self.arguments = {
            "channels": channels, "size": list(size), "width": width, "blocks": blocks,
            "layers": layers,
        }  # fmt: skip
        self.inputs, self.size, self.width = channels, tuple(size), width
        self.depths = (layers,) * blocks

    @property
    def reads(self) -> str:  # type: ignore[override]
        """By the number of its dimensions."""
        return "pixels" if len(self.size) == 2 else "series"

    def operations(self, block: int, layer: int) -> list[str]:
        """The four."""
        return list(NAMES)

    def stem(self) -> nn.Module:
        """A 3-wide convolution."""
        if self.reads == "pixels":
            return OfPixels(picture_stem(self.inputs, self.width, 1))
        return SeriesStem(self.inputs, self.width, self.size[0])

    def bridge(self, block: int, state: int) -> nn.Module:
        """Means of the stem's map, to the side that a block begins with."""
        return nn.Identity() if block < 2 else _mean_pool(len(self.size), 2 ** (block - 1))

    def super_layer(self, block: int, layer: int) -> nn.Module:
        """All four."""
        return Choice([self.layer(block, layer, 0, choice) for choice in range(len(NAMES))])

    def layer(self, block: int, layer: int, state: int, choice: int) -> nn.Module:
        """One of them, behind a mean where a block begins."""
        halves = block > 0 and layer == 0
        return Residual(NAMES[choice], self.width, len(self.size), halves=halves)

    def channels(self, block: int, state: int) -> int:
        """The width."""
        return self.width

    def example(self) -> dict[str, Tensor]:
        """One sample of zeros."""
        values = torch.zeros(1, self.inputs, *self.size)
        if self.reads == "pixels":
            return {"pixels": values}
        return {"values": values, "lengths": torch.tensor([self.size[0]])}


class Residual(nn.Module):
    """(B, C, places...) -> the same, or half as many places."""

    def __init__(self, name: str, width: int, dimensions: int, *, halves: bool) -> None:
        super().__init__()
        conv: Any = nn.Conv1d if dimensions == 1 else nn.Conv2d
        norm: Any = nn.BatchNorm1d if dimensions == 1 else nn.BatchNorm2d
        self.pool = _mean_pool(dimensions, 2) if halves else nn.Identity()
        bodies = {
            "conv3": lambda: conv(width, width, 3, padding=1, bias=False),
            "depthwise5": lambda: conv(width, width, 5, padding=2, groups=width, bias=False),
            "attention": lambda: Attention(width),
            "conv1": lambda: conv(width, width, 1, bias=False),
        }
        self.body = nn.Sequential(bodies[name](), norm(width))

    def forward(self, h: Tensor) -> Tensor:
        """The operation beside a skip."""
        h = self.pool(h)
        found: Tensor = self.body(h) + h
        return found.relu()


class Attention(nn.Module):
    """Self-attention of one head over all places, (B, C, places...) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """Every place asks every place."""
        query, key, value = self.qkv(h.flatten(2).transpose(1, 2)).chunk(3, -1)
        found = functional.scaled_dot_product_attention(query, key, value)
        return found.transpose(1, 2).reshape(h.shape)


class SeriesStem(nn.Module):
    """Series of any length at a fixed number of places, and a 3-wide convolution."""

    def __init__(self, channels: int, width: int, places: int) -> None:
        super().__init__()
        self.places = places
        self.body = nn.Sequential(
            nn.Conv1d(channels, width, 3, padding=1, bias=False), nn.BatchNorm1d(width), nn.ReLU()
        )

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """(B, C, L) and (B,) moments -> (B, width, places)."""
        output: Tensor = self.body(resampled(values, lengths, self.places))
        return output


def resampled(values: Tensor, lengths: Tensor, places: int) -> Tensor:
    """(B, C, L) series, each over its own length, at evenly spaced places by straight lines.

    What lies behind a series' end does not matter.
    """
    last = (lengths.to(values.dtype) - 1).clamp_min(0)[:, None]
    steps = torch.linspace(0, 1, places, device=values.device, dtype=values.dtype)
    at = last * steps
    low = at.floor().long()
    high = torch.minimum(low + 1, last.long())
    share = (at - low)[:, None]
    channels = values.shape[1]
    left = values.gather(2, low[:, None].expand(-1, channels, -1))
    right = values.gather(2, high[:, None].expand(-1, channels, -1))
    return left + share * (right - left)


def _mean_pool(dimensions: int, by: int) -> nn.Module:
    kind: Any = nn.AvgPool1d if dimensions == 1 else nn.AvgPool2d
    pool: nn.Module = kind(by, ceil_mode=True)
    return pool
