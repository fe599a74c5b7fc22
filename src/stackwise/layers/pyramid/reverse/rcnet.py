"""RCNet's neck: a reverse feature pyramid, and a network in which all levels meet at one size.

    p = RevFP(laterals)                                    one pass, fine to coarse
    X = [every p_l at the size of the second level]        (B, L, C, H, W)
    Y = contexts(shift(X)),  Y = X' + scale context + spatial context,  X' = CrossScaleShift(X)
    out_l = p_l + Y_l at the size of p_l

Whatever is made smaller takes the largest value, whatever is made larger is bilinear.

    fusion     what stands before the levels meet     do they meet
    rcnet      RevFP                                  yes
    revfp      RevFP                                  no
    csn        FPN                                    yes

Source: arXiv 2110.12130. Differs from its code: any number of levels (offsets that leave them are
left out), and the list that is given stays as it was.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.layers.pyramid.fpn import FPN
from stackwise.layers.pyramid.laterals import Laterals
from stackwise.layers.pyramid.levels import enlarged
from stackwise.layers.pyramid.norms import Norm
from stackwise.layers.pyramid.reverse.contexts import ScaleContext, SpatialContext, with_contexts
from stackwise.layers.pyramid.reverse.cross_scale_shift import CrossScaleShift
from stackwise.layers.pyramid.reverse.fusion_node import Fused, NodeConv, Weights
from stackwise.layers.pyramid.reverse.revfp import RevFP

RCFusion = Literal["rcnet", "revfp", "csn"]
MEETING = 1
"""The level at whose size all levels meet."""


class CrossScaleNetwork(nn.Module):
    """A list of L levels (B, C, H_l, W_l) -> a list of the same shapes, to be added to them."""

    def __init__(self, channels: int, levels: int, *, ratio: int, wrap: bool, norm: Norm) -> None:
        super().__init__()
        self.shift = CrossScaleShift(channels, levels, ratio=ratio, wrap=wrap, norm=norm)
        self.scale, self.spatial = ScaleContext(channels), SpatialContext(channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """See the class."""
        like = levels[MEETING]
        stacked = torch.stack([_at_size(level, like) for level in levels], dim=1)
        met = with_contexts(self.shift(stacked), self.scale, self.spatial)
        return [_at_size(one, level) for one, level in zip(met.unbind(1), levels, strict=True)]


def _at_size(level: Tensor, like: Tensor) -> Tensor:
    """At the size of another: the largest of what a pixel covers, or bilinear."""
    if level.shape[-2:] == like.shape[-2:]:
        return level
    if level.shape[-2] > like.shape[-2] or level.shape[-1] > like.shape[-1]:
        return functional.adaptive_max_pool2d(level, like.shape[-2:])
    return enlarged(level, like)


class RCNet(nn.Module):
    """The list of a backbone's maps -> `levels` maps of `channels` channels.

    Args:
        in_channels: of the backbone's maps, fine to coarse.
        channels: of every level. levels: at least 2, and as many as there are maps.
        fusion: see the module. guided, weights, conv: of the nodes of RevFP, see `FusionNode`.
        norm: "batch" wants several pictures a step, "group" none.
        ratio, wrap: see `CrossScaleShift`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        levels: int = 5,
        *,
        fusion: RCFusion = "rcnet",
        guided: bool = True,
        weights: Weights = "dynamic",
        conv: NodeConv = "deform",
        norm: Norm = "batch",
        ratio: int = 16,
        wrap: bool = True,
    ) -> None:
        super().__init__()
        if levels < 2:
            raise ModelError(f"RCNet needs at least 2 levels, got {levels}")
        self.norm, self.levels = norm, levels
        self.before: nn.Module
        self.revfp: RevFP | None = None
        if fusion == "csn":
            self.before = FPN(in_channels, channels, levels, norm=norm)
        else:
            self.before = Laterals(in_channels, channels, levels, norm=norm, extra="pool")
            self.revfp = RevFP(
                channels, levels, guided=guided, weights=weights, conv=conv, norm=norm
            )
        self.csn: CrossScaleNetwork | None = None
        if fusion != "revfp":
            self.csn = CrossScaleNetwork(channels, levels, ratio=ratio, wrap=wrap, norm=norm)

    def forward(self, maps: Sequence[Tensor], *, seen: list[Fused] | None = None) -> list[Tensor]:
        """(B, in_channels[l], H_l, W_l) each -> (B, channels, H_l, W_l), `levels` of them.

        Args:
            seen: to which what each node of RevFP decided is appended, fine to coarse.

        Raises:
            ModelError: the maps are no pyramid, or batch norm would have one value a channel.
        """
        self._check_counts(maps)
        found: list[Tensor] = self.before(maps)
        if self.revfp is not None:
            found = self.revfp(found, seen=seen)
        if self.csn is None:
            return found
        return [level + one for level, one in zip(found, self.csn(found), strict=True)]

    def _check_counts(self, maps: Sequence[Tensor]) -> None:
        """Refuse to train batch norm on one value."""
        coarsest = [-(-side // 2 ** (self.levels - len(maps))) for side in maps[-1].shape[-2:]]
        if self.training and self.norm == "batch" and len(maps[0]) * max(coarsest) < 2:
            raise ModelError(
                "batch norm needs more than one value per channel in training, got one picture "
                "with one position on the coarsest level; take norm='group' or more pictures a step"
            )

    @torch.no_grad()
    def decisions(self, maps: Sequence[Tensor]) -> list[Fused]:
        """What each node of RevFP decides on these maps, fine to coarse; none without RevFP."""
        seen: list[Fused] = []
        self(maps, seen=seen)
        return seen
