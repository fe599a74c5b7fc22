"""Pyramid convolution: a convolution over space and over a pyramid's levels (arXiv 2005.03101).

    y^l = w_finer *_{stride 2} x^{l-1}  +  w_same * x^l  +  Up(w_coarser * x^{l+1})

three kernels of 3x3, each with a bias, that all levels share. It is a 3-D convolution whose step
in space follows the scale: the finer level is brought down by stride 2, the coarser one is
convolved at its own size, which is cheaper, and then enlarged, bilinear with the centres of corner
pixels on each other. A level without such a neighbour leaves the term out. On a pyramid of blurred
and halved copies of one picture such a kernel would see an object at every scale alike. Cost, with
S that of a 3x3 convolution of all levels: 1.5 S.

A pyramid of features is none of copies: what lies between two levels are many convolutions.
`ScaleEqualConv2d` therefore samples where it says itself on every level but the finest, with one
kernel and one layer of offsets for all levels.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.layers.deformable import deform_conv2d
from stackwise.layers.pyramid.levels import check_levels, enlarged
from stackwise.layers.pyramid.norms import norm_of
from stackwise.layers.pyramid.scale_equalizing.integrated_norm import IntegratedBatchNorm

LevelsNorm = Literal["ibn", "group", "none"]


class ScaleEqualConv2d(nn.Module):
    """A 3x3 convolution that levels share; deformable for every target level but the finest.

    Args:
        stride: 1, or 2 where a level is brought down to the next.
        padding: on each side. deform: whether it samples where it says itself.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        padding: int = 1,
        deform: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding)
        nn.init.normal_(self.conv.weight, std=0.01)
        self.where = nn.Conv2d(in_channels, 18, 3, stride, padding) if deform else None
        for layer in (self.conv, self.where):
            if layer is not None and layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if self.where is not None:
            nn.init.zeros_(self.where.weight)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor, level: int) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H', W').

        Args:
            level: for which the result is, 0 the finest; not that of which x is.
        """
        if self.where is None or level == 0:
            plain: Tensor = self.conv(x)
            return plain
        return deform_conv2d(
            x, self.where(x), self.conv.weight, self.conv.bias,
            stride=self.stride, padding=self.padding,
        )  # fmt: skip


class PConv(nn.Module):
    """A list of L >= 2 levels (B, channels, H_l, W_l) -> a new list of the same shapes.

    Args:
        channels: of every level.
        deform: whether kernels sample where they say themselves, above the finest level.
        norm: integrated batch norm, group norm on each level, or none; a ReLU follows.
    """

    def __init__(self, channels: int, *, deform: bool = False, norm: LevelsNorm = "ibn") -> None:
        super().__init__()
        self.channels = channels
        self.finer = ScaleEqualConv2d(channels, channels, stride=2, deform=deform)
        self.same = ScaleEqualConv2d(channels, channels, deform=deform)
        self.coarser = ScaleEqualConv2d(channels, channels, deform=deform)
        self.norm = LevelsNormed(channels, norm)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """See the class.

        Raises:
            ModelError: there is one level, or the list is no pyramid of these channels.
        """
        if len(levels) < 2:
            raise ModelError(f"PConv needs at least 2 levels, got {len(levels)}")
        check_levels(levels, self.channels)
        return rectified(self.norm(self.convolved(levels)))

    def convolved(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The sums of the three terms, before the norm and the ReLU."""
        sums = []
        for place, level in enumerate(levels):
            total = self.same(level, place)
            if place > 0:
                total = total + self.finer(levels[place - 1], place)
            if place + 1 < len(levels):
                above = self.coarser(levels[place + 1], place)
                total = total + enlarged(above, total, corners=True)
            sums.append(total)
        return sums


class LevelsNormed(nn.Module):
    """A list of levels -> a list of levels: integrated batch norm, group norm, or as they are."""

    def __init__(self, channels: int, norm: LevelsNorm) -> None:
        super().__init__()
        self.whole = IntegratedBatchNorm(channels) if norm == "ibn" else None
        self.each = norm_of("group" if norm == "group" else "none", channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """(B, C, H_l, W_l) each."""
        if self.whole is not None:
            integrated: list[Tensor] = self.whole(levels)
            return integrated
        return [self.each(level) for level in levels]


def rectified(levels: Sequence[Tensor]) -> list[Tensor]:
    """The ReLU of each level."""
    return [torch.relu(level) for level in levels]
