"""The sizes that every block of a network shares, and the operator and norm that they name."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.layers.chunked_attention import Bias, Kind
from stackwise.layers.dilated_conv import Activation, DilatedConv, Direction
from stackwise.layers.moving_average import MovingAverage

Operator = Literal["tcn", "ema"]
Form = Literal["gated", "simple"]
Norm = Literal["layer", "scale", "batch"]


@dataclass(frozen=True)
class Sizes:
    """What every block of a network shares.

    Attributes:
        dim: of the stream. v_dim: of values. z_dim: of queries and keys. ffn_dim: hidden units.
        chunk: places that attend to each other. direction: what the operator sees; attention is
            causal where that is.
        operator: tcn, ema, or None for none (then X' is Xn). attention: whether there is any.
        kernel_size, dilation_factor, depth, convs_per_block: of the convolutions.
        averages, truncation: of the EMA.
        conv_activation: behind each convolution.
    """

    dim: int
    v_dim: int
    z_dim: int
    ffn_dim: int
    chunk: int = 128
    direction: Direction = "causal"
    operator: Operator | None = "tcn"
    form: Form = "gated"
    attention: bool = True
    norm: Norm = "layer"
    norm_first: bool = True
    activation: Kind = "softmax"
    bias: Bias = "rotary"
    kernel_size: int = 17
    dilation_factor: int = 8
    depth: int = 4
    convs_per_block: int = 1
    averages: int = 16
    truncation: int | None = None
    dropout: float = 0.0
    conv_activation: Activation = "relu"

    def __post_init__(self) -> None:
        for name in ("dim", "v_dim", "z_dim", "ffn_dim", "chunk"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.operator not in ("tcn", "ema", None):
            raise ModelError(f"operator is tcn, ema or none, not {self.operator!r}")
        if self.form not in ("gated", "simple"):
            raise ModelError(f"form is gated or simple, not {self.form!r}")
        if self.norm not in ("layer", "scale", "batch"):
            raise ModelError(f"norm is layer, scale or batch, not {self.norm!r}")
        if self.norm == "batch" and self.causal:
            raise ModelError(
                "norm='batch' takes its statistics over all moments, later ones too; a causal "
                "network takes layer or scale"
            )

    @property
    def causal(self) -> bool:
        """Whether nothing looks ahead."""
        return self.direction == "causal"

    def operator_module(self) -> nn.Module | None:
        """The temporal operator."""
        if self.operator == "tcn":
            return DilatedConv(
                self.dim, self.kernel_size, self.dilation_factor, self.depth,
                direction=self.direction, dropout=self.dropout,
                convs_per_block=self.convs_per_block, activation=self.conv_activation,
            )  # fmt: skip
        if self.operator == "ema":
            return MovingAverage(
                self.dim, self.averages, two_way=not self.causal, truncation=self.truncation
            )
        return None

    def norm_module(self) -> nn.Module:
        """A norm over the stream."""
        if self.norm == "layer":
            return nn.LayerNorm(self.dim)
        return ScaleNorm() if self.norm == "scale" else MomentBatchNorm(self.dim)


class ScaleNorm(nn.Module):
    """g x / rms(x), with one number g: (..., dim) -> (..., dim)."""

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.scale, self.eps = nn.Parameter(torch.ones(1)), eps

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)


class MomentBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over rows and moments, padding among them: (B, L, dim) -> (B, L, dim)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)
