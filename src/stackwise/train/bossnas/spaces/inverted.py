"""The MBConv space: inverted residuals, whose expansion and kernel are searched.

    h <- BN(W2 SE(act(BN(D_k act(BN(W1 h)))))) (+ h)        W1 to 3 or 6 times the channels, D_k a
                                                              depth-wise 3x3 or 5x5 convolution

Five blocks of 2, 4, 4, 4, 4 layers; widths 24, 40, 80, 112, 192 (1.5, 2.5, 5, 7, 12 times that of
the stem), then a fixed 1x1 stage of 320 (20 times). Squeeze-and-excite over a quarter of the
layer's input channels.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stackwise.errors import KnobError
from stackwise.train.bossnas.spaces.choice import Choice
from stackwise.train.bossnas.spaces.space import Space
from stackwise.train.bossnas.spaces.stems import OfPixels, picture_stem, stride_for

KINDS = ((6, 3), (6, 5), (3, 3), (3, 5))
"""Expansion and kernel."""
FACTORS = (1.5, 2.5, 5.0, 7.0, 12.0)
STRIDES = (2, 2, 2, 1, 2)
LAST = 20


class MBConvSpace(Space):
    """Inverted residuals.

    Args:
        channels: of the pictures. size: (H, W). width: channels of the stem; the paper's is 16.
        depths: layers of each block, for at most five.
    """

    kind: ClassVar[str] = "mbconv"

    def __init__(
        self, *, channels: int = 3, size: Any = (224, 224), width: int = 16,
        depths: Sequence[int] = (2, 4, 4, 4, 4),
    ) -> None:  # fmt: skip
        if not 1 <= len(depths) <= len(FACTORS) or min(depths) < 1:
            raise KnobError(f"depths are 1 to {len(FACTORS)} numbers of layers, got {list(depths)}")
        self.arguments = {
            "channels": channels, "size": list(size), "width": width, "depths": list(depths),
        }  # fmt: skip
        self.picture, self.depths, self.width = (channels, *size), tuple(depths), width
        halvings = sum(stride == 2 for stride in STRIDES[: len(depths)])
        self.stride = min(stride_for(min(size), halvings), 2)
        self.wide = [max(1, round(factor * width)) for factor in FACTORS]

    def operations(self, block: int, layer: int) -> list[str]:
        """Such as e6k3."""
        return [f"e{expansion}k{kernel}" for expansion, kernel in KINDS]

    def stem(self) -> nn.Module:
        """3x3, with stride 2 where the pictures are large."""
        return OfPixels(picture_stem(self.picture[0], self.width, self.stride))

    def bridge(self, block: int, state: int) -> nn.Module:
        """To the channels and the scale behind the block before."""
        if block == 0:
            return nn.Identity()
        stride = 2 ** sum(one == 2 for one in STRIDES[:block])
        return nn.Sequential(
            nn.AvgPool2d(stride, ceil_mode=True),
            nn.Conv2d(self.width, self.wide[block - 1], 1, bias=False),
            nn.BatchNorm2d(self.wide[block - 1]),
        )

    def super_layer(self, block: int, layer: int) -> nn.Module:
        """All four."""
        return Choice([self.layer(block, layer, 0, choice) for choice in range(len(KINDS))])

    def layer(self, block: int, layer: int, state: int, choice: int) -> nn.Module:
        """One inverted residual."""
        first = self.width if block == 0 else self.wide[block - 1]
        before = first if layer == 0 else self.wide[block]
        stride = STRIDES[block] if layer == 0 else 1
        return InvertedResidual(before, self.wide[block], *KINDS[choice], stride)

    def channels(self, block: int, state: int) -> int:
        """Those of the block."""
        return self.wide[block]

    def final(self, state: int) -> tuple[nn.Module, int]:
        """The fixed 1x1 stage."""
        before, after = self.wide[len(self.depths) - 1], LAST * self.width
        return nn.Sequential(
            nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.SiLU()
        ), after

    def example(self) -> dict[str, Tensor]:
        """One picture of zeros."""
        return {"pixels": torch.zeros(1, *self.picture)}


class InvertedResidual(nn.Module):
    """(B, before, H, W) -> (B, after, H / stride, W / stride)."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner, squeezed = before * expansion, max(1, before // 4)
        self.expand = nn.Sequential(
            nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.SiLU(),
            nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner, bias=False),
            nn.BatchNorm2d(inner), nn.SiLU(),
        )  # fmt: skip
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(inner, squeezed, 1), nn.SiLU(),
            nn.Conv2d(squeezed, inner, 1), nn.Sigmoid(),
        )  # fmt: skip
        self.project = nn.Sequential(nn.Conv2d(inner, after, 1, bias=False), nn.BatchNorm2d(after))
        self.adds = stride == 1 and before == after

    def forward(self, h: Tensor) -> Tensor:
        """The residual where the form stays."""
        inner = self.expand(h)
        found: Tensor = self.project(inner * self.excite(inner))
        return found + h if self.adds else found
