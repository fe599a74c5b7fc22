"""The residual blocks of MS-MLP: mix over places, then over channels.

    y = x + DropPath(gamma * W2 GELU(W1 LN(u)))        u = MixShift(x)                     (eq. 2)

with one residual, and no norm or nonlinearity between places and channels. The abstract names a
hybrid with Swin's window attention, whose form neither the text that was read nor the authors' code
gives; ours adds u beside the attention, of the same normalised x, and goes on as Swin does:

    h = x + DropPath(Attention(LN(x)) + MixShift(LN(x)))
    y = h + DropPath(W2 GELU(W1 LN(h)))

Windows do not move from block to block as Swin's do: the shifts carry over their borders.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stackwise.build.ms_mlp.mix_shift import SHIFTS, SIZES, Border, MixShift, Order
from stackwise.layers.channel_norm import ChannelNorm
from stackwise.layers.drop_path import DropPath
from stackwise.layers.window_attention import WindowAttention

NORM_EPS = 1e-6


class Step(nn.Module):
    """A convolution of stride `step` with a norm after it: (B, before, H, W) -> smaller map."""

    def __init__(self, before: int, after: int, step: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, step, stride=step)
        self.norm = ChannelNorm(after, NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.norm(self.conv(x))
        return output


class MSBlock(nn.Module):
    """Equation 2: (B, C, H, W) -> (B, C, H, W).

    Args:
        dim: C. mlp_ratio: hidden units over C. layer_scale: gamma at the start.
        before: channels that come in; a block that is given this opens a stage, with a step to
            half the map: (B, before, 2 H, 2 W) -> (B, C, H, W).
    """

    def __init__(
        self,
        dim: int,
        *,
        before: int | None = None,
        shifts: Sequence[int] = SHIFTS,
        sizes: Sequence[int] = SIZES,
        order: Order = "shift-mix",
        border: Border = "wrap",
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float = 1e-6,
    ) -> None:
        super().__init__()
        self.opens = before is not None
        self.step = nn.Identity() if before is None else Step(before, dim, 2)
        self.mix = MixShift(dim, shifts=shifts, sizes=sizes, order=order, border=border)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.first = nn.Linear(dim, int(dim * mlp_ratio))
        self.activation = nn.GELU()
        self.second = nn.Linear(int(dim * mlp_ratio), dim)
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self.step(x)
        u = self.norm(self.mix(x).permute(0, 2, 3, 1))
        added = self.gamma * self.second(self.activation(self.first(u)))
        output: Tensor = x + self.drop_path(added.permute(0, 3, 1, 2))
        return output


class HybridBlock(nn.Module):
    """The hybrid of the module's docstring, with the arguments of `MSBlock` and a window's side.

    It has no gamma, as Swin has none.
    """

    def __init__(
        self,
        dim: int,
        *,
        window: int,
        before: int | None = None,
        shifts: Sequence[int] = SHIFTS,
        sizes: Sequence[int] = SIZES,
        order: Order = "shift-mix",
        border: Border = "wrap",
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.opens = before is not None
        self.step = nn.Identity() if before is None else Step(before, dim, 2)
        self.norm1 = ChannelNorm(dim, NORM_EPS)
        self.mix = MixShift(dim, shifts=shifts, sizes=sizes, order=order, border=border)
        self.attention = WindowAttention(dim, window)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.first = nn.Linear(dim, int(dim * mlp_ratio))
        self.activation = nn.GELU()
        self.second = nn.Linear(int(dim * mlp_ratio), dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self.step(x)
        normed = self.norm1(x)
        h = x + self.drop_path(self.attention(normed) + self.mix(normed))
        added = self.second(self.activation(self.first(self.norm2(h.permute(0, 2, 3, 1)))))
        output: Tensor = h + self.drop_path(added.permute(0, 3, 1, 2))
        return output
