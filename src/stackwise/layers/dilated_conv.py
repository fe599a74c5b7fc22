"""A stack of depth-wise dilated convolutions: thousands of moments in a few layers, at linear cost.

    (x *_f w)_t = sum_k w_k x_{t - f k}                 one filter w of K taps a channel
    layer i = 0 .. D - 1 has the dilation f^i
    receptive field r = 1 + m (K - 1) (1 + f + ... + f^(D - 1))      m convolutions a block

A block is x + drop(act(conv(x))), as in locuslab's TCN (arXiv 1803.01271) but depth-wise and, by
default, with one convolution; the cost is L K D whatever r is. With f > K some moments lie between
all taps and are never read.

torch's own convolution serves, with two exact changes on a CPU: taps that only meet the zeros
before the series are left out, and for dilations above 1 the gradient by the filter is one product
over the taps as they lie in memory (two to three times faster than torch's).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from stackwise.errors import ModelError

Direction = Literal["causal", "symmetric", "two-way"]
Activation = Literal["relu", "silu", "none"]
_ACTIVATIONS = {"relu": functional.relu, "silu": functional.silu, "none": lambda x: x}


def dilated_conv(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Causal depth-wise convolution, (B, C, L) -> (B, C, L).

    Args:
        weight: (C, K); the last tap is the present moment.
    """
    taps = min(weight.shape[1], (x.shape[2] - 1) // dilation + 1)
    return valid_conv(functional.pad(x, ((taps - 1) * dilation, 0)), weight[:, -taps:], dilation)


def valid_conv(padded: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """(B, C, L + (K - 1) dilation) -> (B, C, L)."""
    learns = torch.is_grad_enabled() and (padded.requires_grad or weight.requires_grad)
    plainly = dilation == 1 or not learns or padded.device.type != "cpu"
    if plainly or torch.compiler.is_compiling() or padded.dtype != torch.float32:
        return functional.conv1d(padded, weight[:, None], groups=len(weight), dilation=dilation)
    found: Tensor = _Dilated.apply(padded, weight, dilation)
    return found


class _Dilated(torch.autograd.Function):
    """`valid_conv` with a gradient by the filter that takes the taps as they lie in memory."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, weight: Tensor, dilation: int) -> Tensor:
        padded = padded.contiguous()
        ctx.save_for_backward(padded, weight)
        ctx.dilation = dilation
        return functional.conv1d(padded, weight[:, None], groups=len(weight), dilation=dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        padded, weight = ctx.saved_tensors
        dilation, reach = ctx.dilation, (weight.shape[1] - 1) * ctx.dilation
        by_padded = None
        if ctx.needs_input_grad[0]:
            by_padded = functional.conv1d(
                functional.pad(grad, (reach, reach)), weight.flip(1)[:, None],
                groups=len(weight), dilation=dilation,
            )  # fmt: skip
        rows, channels, step = padded.stride()
        taps = padded.as_strided(
            (*padded.shape[:2], weight.shape[1], grad.shape[2]),
            (rows, channels, dilation * step, step),
        )
        by_weight = torch.matmul(taps, grad.contiguous()[..., None])[..., 0].sum(0)
        return by_padded, by_weight, None


def receptive_field(kernel_size: int, dilation_factor: int, depth: int, convs: int = 1) -> int:
    """Moments that one output sees: r, the present one among them."""
    return 1 + convs * (kernel_size - 1) * sum(dilation_factor**i for i in range(depth))


def stack_reaching(reach: int, *, kernel_size: int = 17) -> tuple[int, int, int]:
    """(K, f, D) of the shallowest stack without holes (f <= K) that sees at least `reach` moments.

    Args:
        kernel_size: K at most; less where one layer of less is enough.
    """
    if reach < 1:
        raise ModelError(f"a receptive field of {reach} sees nothing; give at least 1")
    if reach <= kernel_size:
        return max(reach, 2), 1, 1
    for depth in range(2, 64):
        for factor in range(2, kernel_size + 1):
            if receptive_field(kernel_size, factor, depth) >= reach:
                return kernel_size, factor, depth
    raise ModelError(f"no stack of kernels of {kernel_size} sees {reach} moments")


class DilatedConv(nn.Module):
    """Residual blocks of dilated depth-wise convolutions, (B, L, dim) -> (B, L, dim).

    Filters begin as torch's, within 1 / sqrt(K); the TCN's own N(0, 0.01) belongs to its weight
    norm.

    Args:
        dim: channels. kernel_size: K. dilation_factor: f. depth: D blocks.
        direction: `causal`; `symmetric` looks to both sides alike, which takes an odd K; `two-way`
            is a causal stack and one from the end, summed.
        dropout: of a block's addition. convs_per_block: m.
        activation: behind each convolution.

    Raises:
        ModelError: a size is out of range.
    """

    def __init__(
        self,
        dim: int,
        kernel_size: int = 17,
        dilation_factor: int = 8,
        depth: int = 4,
        *,
        direction: Direction = "causal",
        dropout: float = 0.0,
        convs_per_block: int = 1,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("dim", dim, 1), ("kernel_size", kernel_size, 2), ("depth", depth, 1),
            ("dilation_factor", dilation_factor, 1), ("convs_per_block", convs_per_block, 1),
        ):  # fmt: skip
            if value < least:
                raise ModelError(f"{name} must be at least {least}, got {value}")
        if direction not in ("causal", "symmetric", "two-way"):
            raise ModelError(f"direction is causal, symmetric or two-way, not {direction!r}")
        if direction == "symmetric" and kernel_size % 2 == 0:
            raise ModelError(
                f"kernel_size must be odd where both sides are seen alike, got {kernel_size}"
            )
        if activation not in _ACTIVATIONS:
            raise ModelError(f"activation is relu, silu or none, not {activation!r}")
        self.dim, self.kernel_size, self.dilation_factor = dim, kernel_size, dilation_factor
        self.depth, self.direction, self.convs_per_block = depth, direction, convs_per_block
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        ways = 2 if direction == "two-way" else 1
        bound = kernel_size**-0.5
        self.weight = nn.Parameter(
            torch.empty(ways, depth, convs_per_block, dim, kernel_size).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.zeros(ways, depth, convs_per_block, dim))

    @property
    def receptive_field(self) -> int:
        """Moments that an output sees; where both sides are seen, of all of them."""
        found = receptive_field(
            self.kernel_size, self.dilation_factor, self.depth, self.convs_per_block
        )
        return 2 * found - 1 if self.direction == "two-way" else found

    @property
    def dilations(self) -> list[int]:
        """Of each block."""
        return [self.dilation_factor**i for i in range(self.depth)]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, dim) -> (B, L, dim).

        Args:
            mask: (B, L) bool, False where there is only padding: nothing leaks out of it.
        """
        if not x.shape[1]:
            raise ModelError("a convolution needs at least one moment, got a sequence of length 0")
        flow = x.transpose(1, 2)
        keep = None if mask is None else mask[:, None].to(x.dtype)
        found = self._stack(flow, 0, keep)
        if self.direction == "two-way":
            back = self._stack(flow.flip(2), 1, None if keep is None else keep.flip(2))
            found = found + back.flip(2)
        return found.transpose(1, 2)

    def _stack(self, x: Tensor, way: int, keep: Tensor | None) -> Tensor:
        x = x if keep is None else x * keep
        for block, dilation in enumerate(self.dilations):
            inner = x
            for conv in range(self.convs_per_block):
                weight = self.weight[way, block, conv]
                if self.direction == "symmetric":
                    side = (self.kernel_size - 1) // 2 * dilation
                    inner = valid_conv(functional.pad(inner, (side, side)), weight, dilation)
                else:
                    inner = dilated_conv(inner, weight, dilation)
                inner = self._behind(inner, way, block, conv)
                inner = inner if keep is None else inner * keep
            x = x + inner
        return x

    def _behind(self, convolved: Tensor, way: int, block: int, conv: int) -> Tensor:
        biased = convolved + self.bias[way, block, conv][:, None]
        found: Tensor = self.dropout(_ACTIVATIONS[self.activation](biased))
        return found

    def start(self, batch: int) -> list[Tensor]:
        """The state before the first moment: what each convolution looks back on, all zeros.

        Raises:
            ModelError: the stack looks ahead, so that it cannot be fed moment by moment.
        """
        if self.direction != "causal":
            raise ModelError(f"a stack that is {self.direction} cannot go on from moment to moment")
        reaches = [(self.kernel_size - 1) * d for d in self.dilations] * self.convs_per_block
        return [self.weight.new_zeros(batch, self.dim, reach) for reach in sorted(reaches)]

    def step(self, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Go on: (B, T, dim) further moments -> their outputs (B, T, dim) and the state behind."""
        flow, after = x.transpose(1, 2), []
        places = iter(state)
        for block, dilation in enumerate(self.dilations):
            inner = flow
            for conv in range(self.convs_per_block):
                seen = torch.cat([next(places), inner], 2)
                after.append(seen[:, :, inner.shape[2] :])
                inner = self._behind(
                    valid_conv(seen, self.weight[0, block, conv], dilation), 0, block, conv
                )
            flow = flow + inner
        return flow.transpose(1, 2), after

    def multiply_adds(self, length: int) -> int:
        """Multiply-adds of the filters for one sequence: L K D, twice that for `two-way`."""
        return length * self.weight.numel()
