"""FPN: each level takes what the coarser ones saw, from the top down (arXiv 1612.03144).

    m_L = c_L,    m_l = c_l + enlarged(m_{l+1}),    p_l = conv3x3(m_l)

over the backbone's levels; further levels are made of the raw last map. Enlarged by the nearest
pixel, to the exact size of the finer level.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from stackwise.layers.pyramid.laterals import Laterals
from stackwise.layers.pyramid.norms import Norm, norm_of


class FPN(nn.Module):
    """The list of a backbone's maps -> `levels` maps of `channels` channels.

    Args:
        in_channels: of the backbone's maps, fine to coarse.
        channels: of every level. levels: at least as many as there are maps.
        norm: behind each convolution; the paper has none.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int, levels: int, *, norm: Norm = "none"
    ) -> None:
        super().__init__()
        self.laterals = Laterals(in_channels, channels, levels, norm=norm)
        self.smooth = nn.ModuleList(smoothing(channels, norm) for _ in in_channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, in_channels[l], H_l, W_l) each -> `levels` maps, of (B, channels, H_l, W_l)."""
        sides = self.laterals(maps)
        within = len(self.smooth)
        merged = [sides[within - 1]]
        for level in range(within - 2, -1, -1):
            size = sides[level].shape[-2:]
            merged.insert(0, sides[level] + functional.interpolate(merged[0], size=size))
        smoothed = [layer(x) for layer, x in zip(self.smooth, merged, strict=True)]
        return smoothed + list(sides[within:])


def smoothing(channels: int, norm: Norm, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, Xavier, and a norm."""
    conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=norm == "none")
    nn.init.xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, norm_of(norm, channels))
