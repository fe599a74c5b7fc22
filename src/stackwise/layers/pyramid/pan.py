"""PAN: FPN, then a second pass from the bottom up (arXiv 1803.01534).

    n_1 = p_1,    n_{l+1} = conv3x3(p_{l+1} + conv3x3 stride 2 (n_l))

The second pass goes through every level, those below the backbone's too, so that the fine ones
reach the coarsest.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from stackwise.layers.pyramid.fpn import FPN, smoothing
from stackwise.layers.pyramid.norms import Norm


class PAN(nn.Module):
    """The list of a backbone's maps -> `levels` maps of `channels` channels; see `FPN`."""

    def __init__(
        self, in_channels: Sequence[int], channels: int, levels: int, *, norm: Norm = "none"
    ) -> None:
        super().__init__()
        self.top_down = FPN(in_channels, channels, levels, norm=norm)
        self.down = nn.ModuleList(smoothing(channels, norm, stride=2) for _ in range(levels - 1))
        self.smooth = nn.ModuleList(smoothing(channels, norm) for _ in range(levels - 1))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, in_channels[l], H_l, W_l) each -> `levels` maps, of (B, channels, H_l, W_l)."""
        levels = self.top_down(maps)
        found = levels[:1]
        for down, smooth, level in zip(self.down, self.smooth, levels[1:], strict=True):
            found.append(smooth(level + down(found[-1])))
        return found
