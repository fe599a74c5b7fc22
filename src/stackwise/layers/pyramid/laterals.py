"""Bring a backbone's maps to one number of channels, and add coarser levels below them.

    c_l = norm(conv1x1(C_l))                     for each map of the backbone
    further levels, "conv"    P_{L} = conv3x3 stride 2 of the raw last map, then of the level before
    further levels, "pool"    c_{L} = maxpool2(norm(conv1x1(c_{L-1})))

RetinaNet has the first form (here without its ReLU between the two), RCNet the second.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.layers.pyramid.levels import check_levels, pooled
from stackwise.layers.pyramid.norms import Norm, norm_of

Extra = Literal["conv", "pool"]


class PooledLevel(nn.Sequential):
    """(B, C, H, W) -> (B, C, ceil(H/2), ceil(W/2)): a 1x1 convolution, a norm, a max pool."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 1, bias=norm == "none"), norm_of(norm, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return pooled(super().forward(x))


class Laterals(nn.Module):
    """The list of a backbone's maps -> `levels` maps of `channels` channels, none of which sees
    another. As a neck it is the one that fuses nothing.

    Args:
        in_channels: of the backbone's maps, fine to coarse.
        channels: of every level. levels: at least as many as there are maps.
        norm: behind each 1x1 convolution. extra: how further levels are made.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        levels: int,
        *,
        norm: Norm = "none",
        extra: Extra = "conv",
    ) -> None:
        super().__init__()
        if levels < len(in_channels) or not in_channels:
            raise ModelError(
                f"a pyramid on {len(in_channels)} maps has at least as many levels, got {levels}"
            )
        self.in_channels, self.channels, self.levels = list(in_channels), channels, levels
        self.sides = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, channels, 1, bias=norm == "none"), norm_of(norm, channels)
            )
            for width in in_channels
        )
        self.extra = extra
        further = levels - len(in_channels)
        self.further = nn.ModuleList(
            PooledLevel(channels, norm)
            if extra == "pool"
            else nn.Conv2d(channels if step else in_channels[-1], channels, 3, stride=2, padding=1)
            for step in range(further)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, in_channels[l], H_l, W_l) each -> (B, channels, H_l, W_l), and the further levels.

        Raises:
            ModelError: the maps are no pyramid of these channels.
        """
        check_levels(maps, self.in_channels)
        found: list[Tensor] = [side(x) for side, x in zip(self.sides, maps, strict=True)]
        last = maps[-1] if self.extra == "conv" else found[-1]
        for layer in self.further:
            last = layer(last)
            found.append(last)
        return found
