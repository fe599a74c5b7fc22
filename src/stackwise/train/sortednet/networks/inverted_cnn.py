"""A small CNN of inverted residual blocks: 1x1 up, 3x3 of each channel by itself, 1x1 down.

    h <- h + N(P(act(N(D(act(N(E(h))))))))      E, P 1x1 convolutions, D depthwise, N normalisation

Three stages of blocks, each at half the side and twice the channels; the first block of a stage has
no skip where the shape changes: MobileNetV2 (arXiv 1801.04381) in a form for small pictures.
"""

from typing import Any, Literal

from torch import Tensor, nn

from stackwise.layers.arguments import keeps_arguments
from stackwise.train.sortednet.networks.width_depth_hidden import WidthDepthHidden
from stackwise.train.sortednet.truncation import Place, Units

STAGES = 3
Norm = Literal["batch", "group"]


def normalisation(norm: Norm, channels: int) -> nn.Module:
    """Batch normalisation, or over the channels and places of a picture, which has no statistics
    that a sub-model would need its own of.
    """
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(1, channels)


class InvertedBlock(nn.Module):
    """(B, before, H, W) -> (B, after, H / stride, W / stride), `hidden` channels between."""

    def __init__(self, before: int, hidden: int, after: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.skips = stride == 1 and before == after
        self.expand = nn.Conv2d(before, hidden, 1, bias=False)
        self.norm1 = normalisation(norm, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.norm2 = normalisation(norm, hidden)
        self.project = nn.Conv2d(hidden, after, 1, bias=False)
        self.norm3 = normalisation(norm, after)
        self.activation = nn.ReLU6()

    def forward(self, h: Tensor) -> Tensor:
        x = self.activation(self.norm1(self.expand(h)))
        x = self.activation(self.norm2(self.depthwise(x)))
        output: Tensor = self.norm3(self.project(x))
        return h + output if self.skips else output


@keeps_arguments
class InvertedCNN(WidthDepthHidden, nn.Module):
    """Three stages of inverted blocks, the mean over places, a linear head.

    Args:
        width: channels of the first stage; each later one has twice as many.
        hidden: channels within its blocks, likewise.
        depth: blocks of a stage.
    """

    arguments: dict[str, Any]

    def __init__(
        self, *, channels: int, n_outputs: int, width: int = 16, hidden: int = 48, depth: int = 2,
        norm: Norm = "batch",
    ) -> None:  # fmt: skip
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1, bias=False), normalisation(norm, width), nn.ReLU6()
        )
        self.blocks = nn.ModuleList()
        before = width
        for stage in range(STAGES):
            after = width * 2**stage
            for place in range(depth):
                stride = 2 if stage and place == 0 else 1
                self.blocks.append(InvertedBlock(before, hidden * 2**stage, after, stride, norm))
                before = after
        self.head = nn.Linear(before, n_outputs)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, n_outputs)."""
        x = self.stem(pixels)
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.head(x.mean((2, 3)))
        return output

    @property
    def stages(self) -> int:
        """Runs of blocks of which each is cut to the depth."""
        return STAGES

    def places(self) -> dict[str, Place]:
        """What each module's outputs and inputs are units of."""
        before = Units("width")
        found = {"stem.0": Place(before), "stem.1": Place(before)}
        for place in range(len(self.blocks)):
            scale = 2 ** (place // self.arguments["depth"])
            after, hidden = Units("width", scale), Units("ffn", scale)
            found |= {
                f"blocks.{place}.expand": Place(hidden, before),
                f"blocks.{place}.norm1": Place(hidden),
                f"blocks.{place}.depthwise": Place(hidden),
                f"blocks.{place}.norm2": Place(hidden),
                f"blocks.{place}.project": Place(after, hidden),
                f"blocks.{place}.norm3": Place(after),
            }
            before = after
        return found | {"head": Place(None, before)}
