"""What stands before the first block on pictures."""

from torch import nn

STRIDES = (4, 2, 1)


def picture_stem(channels: int, width: int, stride: int) -> nn.Sequential:
    """(B, channels, H, W) -> (B, width, H / stride, W / stride).

    With stride 4 the paper's: 7x7 with stride 2, batch norm, ReLU, 3x3 max-pool with stride 2.
    Small pictures get 3x3 with stride 2 or 1 and no pool.
    """
    kernel = 7 if stride == 4 else 3
    layers = [
        nn.Conv2d(channels, width, kernel, min(stride, 2), kernel // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, *([nn.MaxPool2d(3, 2, 1)] if stride == 4 else []))


class OfPixels(nn.Module):
    """A stem that is called with `pixels`."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, pixels):  # type: ignore[no-untyped-def]
        """(B, C, H, W) -> (B, width, H', W')."""
        return self.body(pixels)


def stride_for(side: int, halvings: int) -> int:
    """The largest stride of the stem after which a side can be halved so often."""
    fitting = (s for s in STRIDES if -(-side // s) >= 2**halvings)
    return next(fitting, 1)
