"""SEPC: pyramid convolutions in the place of a head's towers (arXiv 2005.03101).

    x <- relu(norm(PConv(x)))                        `depth` times, for both branches
    classes = relu(norm(conv3x3(x))),   boxes = relu(norm(conv3x3(x)))      shared by the levels

    fusion    pyramid convs    branch convs    norm
    pconv     plain            plain           none
    ibn       plain            plain           integrated batch norm
    lite      plain            deformable      integrated batch norm
    full      deformable       deformable      integrated batch norm

Four of them and the two branches cost 8 S, as much as the two towers of four convolutions of
RetinaNet's head, with 14 x 9 C^2 weights in the place of 8 x 9 C^2.

The published code has no padding in the branch convolutions, so that each map loses a pixel on
every side; `padding=0` is that, and fits its weights.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from stackwise.errors import KnobError
from stackwise.layers.pyramid.scale_equalizing.pconv import (
    LevelsNorm,
    LevelsNormed,
    PConv,
    ScaleEqualConv2d,
    rectified,
)

Fusion = Literal["pconv", "ibn", "lite", "full"]


class SEPC(nn.Module):
    """A list of L >= 2 levels -> (for classes, for boxes), two lists of such levels.

    Args:
        channels: of every level. depth: pyramid convolutions; a level sees so many levels around.
        fusion: see the module.
        norm: in the place of the integrated batch norm, "group" for small batches.
        padding: of the branch convolutions, 1, or 0 as in the published code.

    Raises:
        KnobError: a norm is given to the fusion that has none.
    """

    def __init__(
        self,
        channels: int,
        *,
        depth: int = 4,
        fusion: Fusion = "full",
        norm: Literal["ibn", "group"] = "ibn",
        padding: int = 1,
    ) -> None:
        super().__init__()
        if fusion == "pconv" and norm != "ibn":
            raise KnobError(f"fusion='pconv' has no norm, got norm={norm!r}; take fusion='ibn'")
        kind: LevelsNorm = "none" if fusion == "pconv" else norm
        self.pconvs = nn.ModuleList(
            PConv(channels, deform=fusion == "full", norm=kind) for _ in range(depth)
        )
        self.classes = SharedConv(channels, kind, padding, deform=fusion in ("lite", "full"))
        self.boxes = SharedConv(channels, kind, padding, deform=fusion in ("lite", "full"))

    def forward(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """(B, channels, H_l, W_l) each -> two lists of them, smaller by 2 with `padding=0`."""
        found = list(levels)
        for pconv in self.pconvs:
            found = pconv(found)
        return self.classes(found), self.boxes(found)


class SharedConv(nn.Module):
    """A list of levels -> a list of levels: one 3x3 convolution for all, a norm, a ReLU."""

    def __init__(self, channels: int, norm: LevelsNorm, padding: int, *, deform: bool) -> None:
        super().__init__()
        self.conv = ScaleEqualConv2d(channels, channels, padding=padding, deform=deform)
        self.norm = LevelsNormed(channels, norm)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """(B, C, H_l, W_l) each."""
        return rectified(self.norm([self.conv(x, place) for place, x in enumerate(levels)]))
