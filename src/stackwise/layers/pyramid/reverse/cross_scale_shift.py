"""Cross-scale shift: every level takes some channels of the levels around it (arXiv 2110.12130).

    S_i[l] = X[l + offset_i, channels of group i]             offsets 1, -1, 2, -2, in a ring
    X[l] <- X[l] + conv1x1(relu(norm(conv1x1([S_1[l]; ...; S_4[l]; X[l]]))))     own for each level

Groups are of C / 16 channels and copies: X itself stays whole beside them, and what is convolved
has 1.25 C channels. With five levels each sees all others in one step. The shift is that of
arXiv 1811.08383, over levels in the place of time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.layers.pyramid.norms import Norm, norm_of

OFFSETS = (1, -1, 2, -2)


class CrossScaleShift(nn.Module):
    """(B, L, C, H, W), all levels at one size -> the same shape.

    Args:
        channels: C. levels: L.
        ratio: a group has C / ratio channels.
        offsets: of each group, in levels; by default 1, -1, 2 and -2, as far as there are levels.
        wrap: levels are a ring; otherwise what would come from outside is 0.
        norm: behind the first convolution.

    Raises:
        ModelError: the channels do not divide, the groups are more than there are channels, or an
            offset leaves the levels.
    """

    def __init__(
        self,
        channels: int,
        levels: int,
        *,
        ratio: int = 16,
        offsets: Sequence[int] | None = None,
        wrap: bool = True,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if offsets is None:
            offsets = [one for one in OFFSETS if abs(one) < levels]
        if channels % ratio:
            raise ModelError(f"channels ({channels}) must be divisible by ratio ({ratio})")
        if len(offsets) > ratio:
            raise ModelError(f"ratio ({ratio}) must be at least the {len(offsets)} offsets' number")
        if any(abs(one) >= levels for one in offsets):
            raise ModelError(
                f"offsets must be smaller than the number of levels ({levels}), got {list(offsets)}"
            )
        self.group, self.offsets, self.wrap = channels // ratio, list(offsets), wrap
        inside = channels + len(offsets) * self.group
        self.aggregations = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inside, channels, 1, bias=norm == "none"), norm_of(norm, channels),
                nn.ReLU(), nn.Conv2d(channels, channels, 1),
            )
            for _ in range(levels)
        )  # fmt: skip
        xavier(self)

    def shifted(self, x: Tensor) -> Tensor:
        """(B, L, C, H, W) -> (B, L, C + groups, H, W): the copies first, then X as it is."""
        copies = []
        for place, offset in enumerate(self.offsets):
            part = x[:, :, place * self.group : (place + 1) * self.group]
            moved = part.roll(-offset, dims=1)
            if not self.wrap:
                gone = torch.zeros_like(moved)
                stays = slice(0, -offset) if offset > 0 else slice(-offset, None)
                gone[:, stays] = moved[:, stays]
                moved = gone
            copies.append(moved)
        return torch.cat([*copies, x], dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if x.shape[1] != len(self.aggregations):
            raise ModelError(
                f"CrossScaleShift was built for {len(self.aggregations)} levels, got {x.shape[1]}"
            )
        parts = self.shifted(x).unbind(1)
        changed = [layer(one) for layer, one in zip(self.aggregations, parts, strict=True)]
        return x + torch.stack(changed, dim=1)


def xavier(module: nn.Module) -> None:
    """Begin the convolutions of a module by Xavier's uniform, with biases of 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
