"""The gate: z before an activation and h after it -> what goes on.

    soft                h g sigmoid(s (z - tau))
    hard                h g 1[z > tau]
    straight-through    the value of hard, the gradient of soft

It reads z and not h: phi(-1) = -0.159 of a GELU would open a gate at -0.5 that -1 leaves shut.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Form = Literal["soft", "hard", "straight-through"]
ROLES = ("tau", "gain", "bias", "down", "up")
"""What a mode may hold of a layer, by the names that files have."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """What a mode holds of one layer of n units. What is None does nothing.

    Attributes:
        tau: (n,) thresholds, in the units of z; -inf is always open.
        gain: (n,) factors. bias: (n,) added to z before the activation.
        down, up: (r, n) and (n, r): tau + up tanh(down z) is the threshold.

    Each may have rows, (rows, n): one for each row of a batch.
    """

    tau: Tensor | None = None
    gain: Tensor | None = None
    bias: Tensor | None = None
    down: Tensor | None = None
    up: Tensor | None = None
    sharpness: float = 10.0
    form: Form = "soft"

    def to(self, like: Tensor) -> "Numbers":
        """The same on the device and in the type of a tensor."""
        held = {name: getattr(self, name) for name in ROLES}
        return replace(self, **{n: t.to(like) for n, t in held.items() if t is not None})

    def part(self, start: int, stop: int) -> "Numbers":
        """Those of the units from `start` to before `stop`."""
        held = {name: getattr(self, name) for name in ROLES}
        cut = {n: t[start:stop] if n == "up" else t[..., start:stop] for n, t in held.items()
               if t is not None}  # fmt: skip
        return replace(self, **cut)


def laid(numbers: Tensor, like: Tensor, axis: int) -> Tensor:
    """(n,) or (rows, n) numbers so that they meet the units of `like`, on its axis -1 or 1."""
    rest = [1] * (like.dim() - 2)
    if numbers.dim() == 1:
        return numbers if axis == -1 else numbers.view(-1, *rest)
    rows, units = numbers.shape
    return numbers.view(rows, *rest, units) if axis == -1 else numbers.view(rows, units, *rest)


def over_threshold(z: Tensor, numbers: Numbers, axis: int) -> Tensor:
    """z - tau; where the threshold depends on the input, z - tau - up tanh(down z)."""
    assert numbers.tau is not None
    over = z - laid(numbers.tau, z, axis)
    if numbers.down is None or numbers.up is None:
        return over
    seen = z if axis == -1 or z.dim() == 2 else z.flatten(2).mean(2)
    moved = torch.tanh(seen @ numbers.down.T) @ numbers.up.T
    return over - (moved if axis == -1 else laid(moved, z, axis))


def gated(
    z: Tensor,
    h: Tensor,
    numbers: Numbers,
    axis: int = -1,
    watch: Callable[[Tensor], None] | None = None,
    *,
    fresh: bool = False,
) -> Tensor:
    """What goes on.

    Args:
        z: (..., n) before the activation; (B, n, ...) where `axis` is 1. h: after it, or what was
            made of it.
        watch: is given the open gates m in [0, 1], of the shape of z.
        fresh: nobody else has h, so that it may be written over where there are no gradients: at
            inference a second tensor of its size would cost more than the product.

    Returns:
        of the shape and the type of h.
    """
    over = None if numbers.tau is None else over_threshold(z, numbers, axis)
    spare = fresh and not torch.is_grad_enabled() and h.data_ptr() != z.data_ptr()
    if over is None:
        return _times(h, numbers.gain, axis, spare)
    if numbers.form == "hard":
        share = (over > 0).to(h.dtype)
        made = _times(h.mul_(share) if spare else h * share, numbers.gain, axis, spare)
    else:
        share = torch.sigmoid(numbers.sharpness * over)
        shut = h * (over > 0).to(h.dtype) if numbers.form == "straight-through" else None
        made = _times(h.mul_(share) if spare else h * share, numbers.gain, axis, spare)
        if shut is not None:
            value = _times(shut, numbers.gain, axis, False)
            made = value.detach() + (made - made.detach())  # the bracket is 0 exactly
    if watch is not None:
        watch(share)
    return made


def _times(h: Tensor, gain: Tensor | None, axis: int, spare: bool) -> Tensor:
    if gain is None:
        return h
    return h.mul_(laid(gain, h, axis)) if spare else h * laid(gain, h, axis)
