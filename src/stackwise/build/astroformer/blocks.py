"""The two kinds of block: C, a convolution with squeeze-excitation, and T, a transformer on a map.

C (i -> o channels, stride s, m = 4 o):

    a = GELU(BN(conv1x1(BN(x), i -> m)));    b = GELU(BN(depthwise3x3(a, stride s)))
    c = b * sigmoid(W2 silu(W1 mean_hw(b)))
    y = shortcut(x) + DropPath(conv1x1(c, m -> o))

T:

    h = shortcut(x) + DropPath(attention(pool(LN(x))))
    y = h + DropPath(W2 GELU(W1 LN(h)))

With s = 2 `pool` and the shortcut average 2 x 2 places; where i != o the shortcut is then a
1 x 1 convolution. All else about a shortcut is the identity.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from stackwise.layers.channel_norm import ChannelNorm
from stackwise.layers.drop_path import DropPath
from stackwise.layers.relative_attention import Relative, RelativeAttention

EXPANSION = 4
SQUEEZE = 0.25
"""Hidden units of squeeze-excitation, as a share of the block's output width."""


def _pool(stride: int) -> nn.Module:
    return nn.AvgPool2d(2, stride) if stride == 2 else nn.Identity()


def _shortcut(before: int, after: int, stride: int) -> nn.Sequential:
    expand = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
    return nn.Sequential(_pool(stride), expand)


class SqueezeExcite(nn.Module):
    """b * sigmoid(W2 silu(W1 mean_hw(b))), (B, C, H, W) -> same."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(self.first(x.mean((2, 3), keepdim=True)))
        return x * self.second(hidden).sigmoid()


class ConvBlock(nn.Module):
    """C of the module's docstring, (B, before, H, W) -> (B, after, H / stride, W / stride)."""

    def __init__(self, before: int, after: int, stride: int = 1, drop_path: float = 0.0) -> None:
        super().__init__()
        middle = EXPANSION * after
        self.shortcut = _shortcut(before, after, stride)
        self.pre_norm = nn.BatchNorm2d(before)
        self.expand = nn.Conv2d(before, middle, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(middle)
        self.depthwise = nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False)
        self.norm2 = nn.BatchNorm2d(middle)
        self.excite = SqueezeExcite(middle, int(SQUEEZE * after))
        self.project = nn.Conv2d(middle, after, 1)
        self.activation = nn.GELU()
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.norm1(self.expand(self.pre_norm(x))))
        h = self.activation(self.norm2(self.depthwise(h)))
        output: Tensor = self.shortcut(x) + self.drop_path(self.project(self.excite(h)))
        return output


class TransformerBlock(nn.Module):
    """T of the module's docstring, (B, before, H, W) -> (B, after, H / stride, W / stride).

    Args:
        map_size: of the map that attention sees, after the stride.
        head_dim, relative: see `RelativeAttention`.
    """

    def __init__(
        self,
        before: int,
        after: int,
        stride: int = 1,
        drop_path: float = 0.0,
        *,
        map_size: tuple[int, int],
        head_dim: int = 32,
        relative: Relative = "bias",
    ) -> None:
        super().__init__()
        self.shortcut = _shortcut(before, after, stride)
        self.norm1 = ChannelNorm(before)
        self.pool = _pool(stride)
        self.attention = RelativeAttention(before, after, head_dim, map_size, relative=relative)
        self.norm2 = ChannelNorm(after)
        self.first = nn.Conv2d(after, EXPANSION * after, 1)
        self.activation = nn.GELU()
        self.second = nn.Conv2d(EXPANSION * after, after, 1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        h = self.shortcut(x) + self.drop_path(self.attention(self.pool(self.norm1(x))))
        hidden = self.activation(self.first(self.norm2(h)))
        output: Tensor = h + self.drop_path(self.second(hidden))
        return output


class Block(nn.Module):
    """A block of either kind, so that a stack of both is a list of one class.

    Args:
        kind: C or T.
        opens: whether it is the first block of a stage.
        transformer: further arguments of a `TransformerBlock`.
    """

    def __init__(
        self,
        kind: str,
        before: int,
        after: int,
        stride: int = 1,
        drop_path: float = 0.0,
        *,
        opens: bool = False,
        transformer: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.kind, self.opens = kind, opens
        self.body: nn.Module
        if kind == "C":
            self.body = ConvBlock(before, after, stride, drop_path)
        else:
            self.body = TransformerBlock(before, after, stride, drop_path, **transformer)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.body(x)
        return output


def initialise(module: nn.Module) -> None:
    """Initial values of a convolutional part: N(0, 2 / fan_out); of a T block: Xavier uniform."""
    layers: dict[nn.Conv2d, bool] = {}
    for part in module.modules():
        inside = isinstance(part, TransformerBlock)
        layers |= {m: inside for m in part.modules() if isinstance(m, nn.Conv2d)}
    for layer, of_transformer in layers.items():
        if of_transformer:
            nn.init.xavier_uniform_(layer.weight)
        else:
            height, width = layer.kernel_size
            fan_out = height * width * layer.out_channels / layer.groups
            nn.init.normal_(layer.weight, std=(2 / fan_out) ** 0.5)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
