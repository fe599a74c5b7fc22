"""The size space: convolutions whose number of channels is searched, as in NATS-Bench.

A layer of width c has the first c output channels of one weight, applied to the first channels of
its input, and a batch norm of its own:

    h <- ReLU(BN_c(W[:c, :channels of h] * h))

The state is the number of the width before. The first layer of each block but the first has
stride 2.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import KnobError
from stackwise.train.bossnas.spaces.space import Space
from stackwise.train.bossnas.spaces.stems import OfPixels, picture_stem


class SlimSpace(Space):
    """Widths.

    Args:
        channels: of the pictures. size: (H, W). widths: to choose from, increasing; the paper's
            space has 8, 16, ..., 64. depths: layers of each block; the paper's are 2, 2, 1.
    """

    kind: ClassVar[str] = "size"

    def __init__(
        self, *, channels: int = 3, size: Any = (32, 32),
        widths: Sequence[int] = (8, 16, 24, 32, 40, 48, 56, 64),
        depths: Sequence[int] = (2, 2, 1),
    ) -> None:  # fmt: skip
        if list(widths) != sorted(set(widths)) or not widths or min(widths) < 1:
            raise KnobError(f"widths increase, and the least is 1 or more; got {list(widths)}")
        self.arguments = {
            "channels": channels, "size": list(size), "widths": list(widths),
            "depths": list(depths),
        }  # fmt: skip
        self.picture, self.widths = (channels, *size), tuple(widths)
        self.depths, self.start = tuple(depths), len(widths) - 1

    def operations(self, block: int, layer: int) -> list[str]:
        """The widths."""
        return [str(width) for width in self.widths]

    def after(self, block: int, layer: int, state: int, choice: int) -> int | None:
        """The width that was chosen."""
        return choice

    def stem(self) -> nn.Module:
        """To the largest width."""
        return OfPixels(picture_stem(self.picture[0], self.widths[-1], 1))

    def super_layer(self, block: int, layer: int) -> nn.Module:
        """A convolution of the largest width."""
        return SlimConv(self.widths, self._stride(block, layer))

    def layer(self, block: int, layer: int, state: int, choice: int) -> nn.Module:
        """A convolution from one width to another."""
        return _plain(self.widths[state], self.widths[choice], self._stride(block, layer))

    def _stride(self, block: int, layer: int) -> int:
        return 2 if block and layer == 0 else 1

    def channels(self, block: int, state: int) -> int:
        """The width."""
        return self.widths[state]

    def align(self, block: int, state: int) -> nn.Module:
        """1x1 convolution and batch norm to the largest width, one for each other width."""
        if state == self.start:
            return nn.Identity()
        return nn.Sequential(
            nn.Conv2d(self.widths[state], self.widths[-1], 1, bias=False),
            nn.BatchNorm2d(self.widths[-1]),
        )

    def example(self) -> dict[str, Tensor]:
        """One picture of zeros."""
        return {"pixels": torch.zeros(1, *self.picture)}


class SlimConv(nn.Module):
    """3x3 convolutions of all widths in one weight, a batch norm a width."""

    def __init__(self, widths: Sequence[int], stride: int) -> None:
        super().__init__()
        self.widths, self.stride = tuple(widths), stride
        most = self.widths[-1]
        self.weight = nn.Conv2d(most, most, 3, bias=False).weight
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)

    def forward(self, h: Tensor, choice: int, state: int) -> Tensor:
        """(B, c, H, W) -> (B, widths[choice], H / stride, W / stride)."""
        weight = self.weight[: self.widths[choice], : h.shape[1]]
        found: Tensor = self.norms[choice](functional.conv2d(h, weight, None, self.stride, 1))
        return found.relu()

    def cut(self, choice: int, state: int) -> nn.Module:
        """The slice as a layer of its own."""
        made = _plain(self.widths[state], self.widths[choice], self.stride)
        with torch.no_grad():
            made[0].weight.copy_(self.weight[: self.widths[choice], : self.widths[state]])  # type: ignore[operator,union-attr,arg-type]
        made[1].load_state_dict(self.norms[choice].state_dict())
        return made


def _plain(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    )
