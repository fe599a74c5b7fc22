"""RevFP: a feature pyramid fused in one pass, from fine to coarse (arXiv 2110.12130).

    p_1 = Fuse(c_1, up(c_2))
    p_l = Fuse(c_l, up(c_{l+1}), down(p_{l-1}))         1 < l < L
    p_L = Fuse(c_L, down(p_{L-1}))                      nothing is enlarged: without guidance

Each level takes its own map, the coarser one as the backbone gave it, and the finer one as it is
finished: L steps one after the other, where FPN and a second pass take 2 (L - 1). `up` is bilinear,
`down` the largest of 2 x 2 with an odd edge repeated. So p_l knows of c_1 .. c_{l+1}, of none that
is coarser.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.layers.pyramid.levels import check_levels, enlarged, pooled
from stackwise.layers.pyramid.norms import Norm
from stackwise.layers.pyramid.reverse.fusion_node import Fused, FusionNode, NodeConv, Weights


class RevFP(nn.Module):
    """A list of L levels (B, channels, H_l, W_l) -> a new list of the same shapes.

    Args:
        channels: of every level. levels: L, at least 2.
        guided, weights, conv, norm: of the nodes; see `FusionNode`.
    """

    def __init__(
        self,
        channels: int,
        levels: int = 5,
        *,
        guided: bool = True,
        weights: Weights = "dynamic",
        conv: NodeConv = "deform",
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if levels < 2:
            raise ModelError(f"RevFP needs at least 2 levels, got {levels}")
        self.channels = channels
        self.nodes = nn.ModuleList(
            FusionNode(
                channels, three=0 < level < levels - 1, guided=guided and level < levels - 1,
                weights=weights, conv=conv, norm=norm,
            )
            for level in range(levels)
        )  # fmt: skip

    def forward(self, levels: Sequence[Tensor], *, seen: list[Fused] | None = None) -> list[Tensor]:
        """See the class.

        Args:
            seen: to which what each node decided is appended, fine to coarse.
        """
        check_levels(levels, self.channels, count=len(self.nodes))
        found: list[Tensor] = []
        last = len(levels) - 1
        for place, (node, level) in enumerate(zip(self.nodes, levels, strict=True)):
            given = [level]
            if place < last:
                given.append(enlarged(levels[place + 1], level))
            if place > 0:
                given.append(pooled(found[-1]))
            found.append(node(*given, seen=seen))
        return found
