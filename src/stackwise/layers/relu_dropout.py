"""ReLU and dropout in one: y = ReLU(x) * keep / (1 - p), keep ~ Bernoulli(1 - p).

On a CPU, drawing Bernoulli numbers costs as much as a matrix product in float32, and ten of them
in bfloat16. Here each place gets 16 random bits, four places from one 64-bit draw, which is six
times cheaper, and the backward pass needs nothing but the output, since y > 0 exactly where the
input was above 0 and was kept:

    dx = dy / (1 - p)  where y > 0,  else 0
"""

from typing import Any

import torch
from torch import Tensor, nn

LEVELS = 2**16
"""p is rounded to a multiple of 1 / LEVELS, an error of at most 1e-5."""


class _ReLUDropout(torch.autograd.Function):
    """The equation of the module's docstring, on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        level = words.view(torch.int16)[: x.numel()].view(x.shape)
        # `dropped` of the LEVELS equally likely levels become 0, the others 1
        border = dropped - LEVELS // 2
        keep = level.clamp_(border - 1, border).sub_(border - 1)
        ctx.scale = LEVELS / (LEVELS - dropped)
        y = keep.to(x.dtype).mul_(x).clamp_min_(0).mul_(ctx.scale)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        passed = torch.ops.aten.threshold_backward(grads[0], y, 0)
        return passed.mul_(ctx.scale), None


class ReLUDropout(nn.Module):
    """ReLU, then dropout with probability p while training: (...) -> (...), any float type."""

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        dropped = round(self.p * LEVELS)
        if not (self.training and 0 < dropped < LEVELS):
            return x.relu()
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return nn.functional.dropout(x.relu(), self.p)
        output: Tensor = _ReLUDropout.apply(x, dropped)
        return output

    def extra_repr(self) -> str:
        return f"p={self.p}"
