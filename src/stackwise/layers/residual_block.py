"""The residual block of two 3x3 convolutions with batch norm (arXiv 1512.03385).

y = relu(body(x) + skip(x))        skip: itself, or a 1x1 convolution where the shape changes
"""

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.skip = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) -> (B, after, H / stride, W / stride)."""
        return (self.body(x) + self.skip(x)).relu()
