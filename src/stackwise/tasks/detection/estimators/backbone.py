"""The small residual backbone: four stages, each half as large as the one before.

    stem       3x3 stride 2, 3x3 stride 2                       stride 4
    stage n    `blocks` residual blocks, the first of stride 2 from the second stage on
    maps       of stages with stride `finest` to 32, of w, 2 w, 4 w, 4 w channels

A block is two 3x3 convolutions with batch norm beside a skip (arXiv 1512.03385).
"""

from torch import Tensor, nn

from stackwise.layers.residual_block import ResidualBlock

STRIDES = (4, 8, 16, 32)


class ResidualBackbone(nn.Module):
    """Pixels (B, 3, H, W) -> the maps of the last stages.

    Args:
        width: channels of the first stage. blocks: of each stage.
        finest: stride of the first map that is given, 4 or 8.
        channels: of the pixels.

    Attributes:
        maps: channels of each map that is given.
    """

    def __init__(self, width: int, blocks: int, finest: int, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        )  # fmt: skip
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.stages = nn.ModuleList()
        before = width
        for stage, after in enumerate(widths):
            layers = []
            for place in range(blocks):
                layers.append(ResidualBlock(before, after, 2 if stage and not place else 1))
                before = after
            self.stages.append(nn.Sequential(*layers))
        self.first = STRIDES.index(finest)
        self.maps = widths[self.first :]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, channels, H, W) -> (B, maps[l], H_l, W_l) each, fine to coarse."""
        x, found = self.stem(pixels), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found[self.first :]
