"""The selective scan: a linear recurrence whose coefficients are read from the input.

    h_t = exp(Delta_t A) * h_{t-1} + (Delta_t x_t) B_t          h_t (E, N), one example
    y_t = h_t C_t

(arXiv 2312.00752, equations 2 and 4: A is discretised by zero-order hold, B by the rule Delta B.)

Autograd would record a small graph a step, and walking L of them is what makes the plain loop slow.
Here the loop over time works in place, without a graph, and the gradient is the same recurrence
backwards: with g_t the gradient of the loss by h_t,

    g_t = C_t dL/dy_t + exp(Delta_{t+1} A) * g_{t+1}
    dL/dB_t = sum_e g_t Delta_t x_t             dL/d(Delta_t x_t) = sum_n g_t B_t
    dL/d(Delta_t A) = g_t * exp(Delta_t A) * h_{t-1}

Time is the first dimension, so that a step is one stretch of memory. Only the state before every
stretch of `CHUNK` steps, and the last stretch, is kept; the others are made again in the backward
pass. Memory beyond that of the arguments grows with L / CHUNK states instead of L.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stackwise.errors import ModelError

CHUNK = 32
"""Steps of a stretch."""


def selective_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over time, in the type of the arguments (float32 or float64).

    Args:
        x: (L, B, E) inputs. delta: (L, B, E) step sizes.
        A: (E, N) rates, negative where the state decays.
        B: (L, B, N) what a step writes. C: (L, B, N) what a step reads.
        state: (B, E, N) the state before the first step; None is zeros.

    Returns:
        y (L, B, E) and the state after the last step, (B, E, N). Both have gradients.
    """
    if len(x) == 0:
        raise ModelError("a scan needs at least one step, got a sequence of length 0")
    if state is None:
        state = x.new_zeros(*x.shape[1:], A.shape[1])
    if len(x) == 1 or torch.compiler.is_compiling():
        return _plainly(x, delta, A, B, C, state)
    y, last = _SelectiveScan.apply(x, delta, A.T, B, C, state.transpose(1, 2))
    return y, last.transpose(1, 2)


def _plainly(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    """The equations as they stand.

    For a single step, where they cost least, and for torch.compile and torch.export, which trace
    what runs and cannot look into the function below.
    """
    outputs = []
    for x_t, delta_t, B_t, C_t in zip(x, delta, B, C, strict=True):
        h = torch.exp(delta_t[..., None] * A) * h + (delta_t * x_t)[..., None] * B_t[:, None]
        outputs.append((h * C_t[:, None]).sum(-1))
    return torch.stack(outputs), h


class _SelectiveScan(torch.autograd.Function):
    """The equations of the module's docstring; states are (B, N, E) and A is (N, E) in here."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        A, y, starts = A.contiguous(), torch.empty_like(x), [state]
        rooms = _rooms(3, x, A)
        for span in _stretches(len(x)):
            decay, h, product = (room[: len(x[span])] for room in rooms)
            _fill(decay, h, x[span], delta[span], A, B[span], starts[-1])
            torch.sum(torch.mul(h, C[span, ..., None], out=product), 2, out=y[span])
            starts.append(h[-1].clone())
        *before, last = starts
        # the backward pass begins with the last stretch, whose states are still here
        ctx.save_for_backward(x, delta, A, B, C, decay, h, *before)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        x, delta, A, B, C, decay, h, *before = ctx.saved_tensors
        by_y, carried = grads
        by_x, by_delta, by_B, by_C = map(torch.empty_like, (x, delta, B, C))
        by_A = torch.zeros_like(A)
        rooms = _rooms(2, x, A)
        again = _rooms(2 if len(before) > 1 else 0, x, A)
        for span, start in reversed(list(zip(_stretches(len(x)), before, strict=True))):
            if start is not before[-1]:
                decay, h = again
                _fill(decay, h, x[span], delta[span], A, B[span], start)
            g, product = (room[: len(x[span])] for room in rooms)
            torch.mul(by_y[span, :, None], C[span, ..., None], out=g)
            carried = _recur_backwards_(g, decay, carried)

            written = delta[span] * x[span]
            torch.sum(torch.mul(h, by_y[span, :, None], out=product), -1, out=by_C[span])
            torch.sum(torch.mul(g, written[:, :, None], out=product), -1, out=by_B[span])
            by_written = torch.mul(g, B[span, ..., None], out=product).sum(2)
            torch.mul(by_written, delta[span], out=by_x[span])

            by_exponent = g.mul_(decay)
            by_exponent[0].mul_(start)
            by_exponent[1:].mul_(h[:-1])
            by_A += torch.mul(by_exponent, delta[span, :, None], out=product).sum((0, 1))
            torch.sum(by_exponent.mul_(A), 2, out=by_delta[span]).addcmul_(by_written, x[span])
        return by_x, by_delta, by_A, by_B, by_C, carried


def _stretches(length: int) -> list[slice]:
    return [slice(first, first + CHUNK) for first in range(0, length, CHUNK)]


def _rooms(count: int, x: Tensor, A: Tensor) -> list[Tensor]:
    """Tensors (T, B, N, E) that stretches fill one after another: on a CPU, memory that is asked
    for anew costs more than the exp of what is written there."""
    steps = min(CHUNK, len(x))
    return [x.new_empty(steps, x.shape[1], *A.shape) for _ in range(count)]


def _fill(
    decay: Tensor, h: Tensor, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, start: Tensor
) -> None:
    """Write exp(Delta A) and the states of one stretch, each (T, B, N, E)."""
    torch.mul(delta[:, :, None], A, out=decay).exp_()
    torch.mul((delta * x)[:, :, None], B[..., None], out=h)
    before = start
    for now, factor in zip(h.unbind(), decay.unbind(), strict=True):
        before = now.addcmul_(factor, before)


def _recur_backwards_(g: Tensor, decay: Tensor, carried: Tensor) -> Tensor:
    """Add to each g_t what comes back from later steps; returns what goes on to earlier ones."""
    later = g[-1].add_(carried)
    factors = decay.unbind()
    for now, factor in zip(reversed(g.unbind()[:-1]), reversed(factors[1:]), strict=True):
        later = now.addcmul_(factor, later)
    return factors[0] * later
