"""Activation maximisation: a picture is changed step by step, so that a unit answers more strongly.

    x <- clip(x + s g / mean|g|),   g = d a_u(x) / dx          a step of s grey levels on average
    x <- argmin_u TV(u) + w ||u - x||^2                        smoothing.py

Each step takes a random crop of a picture that is larger than what the network reads, changes it,
and writes it back at its place (jitter). A phase says how large the picture is, how far crops are
from its centre, how much is smoothed and how far a step goes.

`MEAN` and `CENTRE` are the phases of the published code. They were made for AlexNet. In `STEADY`,
ours, crops also vary in size, the gradient is blurred, less and less, and its channels are mixed as
those of natural pictures go together: deeper networks otherwise answer to speckle in all colours.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.probe.multifaceted_visualization.smoothing import denoise

WHITE = 255.0
INNER = 10
"""Iterations of one denoising, which begins where the last one ended."""


@dataclass(frozen=True)
class Phase:
    """A part of the synthesis; pairs go from the first to the second value over its steps.

    Attributes:
        steps: how many. scale: by which the picture is enlarged before.
        spread: deviation of a crop's place from the centre, in shares of the slack.
        margin: share of the crop's side at each edge whose gradient is 0.
        weight: of the denoising, more is less smooth. step: mean change in grey levels of 255.
        softmax: the target is the unit's probability among the outputs.
        blur: deviation of the Gaussian over the gradient, in shares of the side.
        zoom: crops vary by this share in size. stay: share of the way back to the start that each
            step goes. natural: the gradient is mixed as the channels of natural pictures are.
    """

    steps: int
    weight: tuple[float, float]
    step: tuple[float, float]
    scale: float = 1.0
    spread: float = 0.3
    margin: float = 0.0
    softmax: bool = False
    blur: tuple[float, float] = (0.0, 0.0)
    zoom: float = 0.0
    stay: float = 0.0
    natural: bool = False


MEAN = (
    Phase(190, (0.4, 0.4), (1, 2)),
    Phase(150, (0.01, 2), (1, 1), scale=1.2),
    Phase(20, (0.1, 2), (2, 2), spread=0.2, margin=50 / 227),
    Phase(10, (0.4, 2), (2, 2)),
)
CENTRE = (
    Phase(190, (0.001, 0.05), (11, 11), softmax=True),
    Phase(150, (0.01, 0.08), (6, 6), scale=1.2, softmax=True),
    Phase(150, (0.01, 2), (1, 1), scale=1.2),
    Phase(30, (0.1, 2), (3, 3), spread=0.1, margin=50 / 227),
    Phase(10, (0.01, 2), (6, 3)),
)
_STEADY: Any = {"zoom": 0.15, "natural": True}
STEADY = (
    Phase(25, (0.04, 0.12), (4, 3), scale=1.2, blur=(1 / 64, 1 / 80), **_STEADY),
    Phase(25, (0.12, 0.25), (3, 2), blur=(1 / 80, 1 / 128), **_STEADY),
    Phase(20, (0.25, 0.5), (2, 1.5), blur=(1 / 128, 1 / 320), **_STEADY),
)
PHASES = {"steady": STEADY, "mean": MEAN, "centre": CENTRE}

Target = Callable[[Tensor, bool], Tensor]
"""Pictures (1, C, *S) from 0 to 255, and whether a probability is asked for -> (1,)."""


def maximise(
    target: Target,
    start: Tensor,
    phases: Sequence[Phase] = STEADY,
    *,
    share: float = 1.0,
    mixing: Tensor | None = None,
    seed: int = 0,
    on_step: Callable[[float], None] | None = None,
) -> Tensor:
    """A picture that excites a unit, made of another one.

    Args:
        target: what is maximised. start: (C, *S) from 0 to 255, of the size that the network takes.
        share: of each phase's steps that are made, at least one. mixing: (C, C) of the channels,
            for phases that are natural; none leaves gradients as they are.
        on_step: told the target's value at each step.

    Returns:
        (C, *S) at the size of `start`. It depends on the seed alone, not on what else is made.

    Raises:
        ModelError: no gradient reaches the picture.
    """
    generator = torch.Generator().manual_seed(seed)
    picture, origin = start[None].float(), start[None].float()
    size = tuple(start.shape[1:])
    for phase in phases:
        if phase.scale != 1.0:
            larger = [round(side * phase.scale) for side in picture.shape[2:]]
            picture, origin = (resized(one, larger).clamp(0, WHITE) for one in (picture, origin))
        dual = torch.zeros(len(size), *picture.shape).to(picture)
        steps = max(1, round(phase.steps * share))
        for place in range(steps):
            at = place / max(steps - 1, 1)
            crop = crop_of(phase, picture.shape[2:], size, generator)
            part = picture[crop]
            moved, value = stepped(target, part, phase, at, size, mixing)
            if phase.stay:
                moved = moved + phase.stay * (origin[crop] - moved)
            smooth, dual[(slice(None), *crop)] = denoise(
                moved, between(phase.weight, at), INNER, dual[(slice(None), *crop)]
            )
            picture = picture.clone()
            picture[crop] = smooth.clamp(0, WHITE)
            if on_step is not None:
                on_step(value)
    return resized(picture, size).clamp(0, WHITE)[0]


def stepped(
    target: Target,
    part: Tensor,
    phase: Phase,
    at: float,
    size: Sequence[int],
    mixing: Tensor | None = None,
) -> tuple[Tensor, float]:
    """A crop after one step along the gradient, clipped, and the target's value before it.

    Args:
        part: (1, C, *S). at: how much of the phase is over, 0 to 1. size: that the network takes.
        mixing: as for `maximise`.
    """
    asked = part.detach().requires_grad_(True)
    with torch.enable_grad():
        value = target(resized(asked, size), phase.softmax)
        if not value.requires_grad:
            raise ModelError(
                "no gradient reaches the picture: the network is quantised, or computes without "
                "gradients inside"
            )
        (gradient,) = torch.autograd.grad(value.sum(), asked)
    if phase.natural and mixing is not None:
        gradient = torch.einsum("cd,bd...->bc...", mixing, gradient)
    gradient = blurred(gradient, between(phase.blur, at))
    gradient = inside(gradient, phase.margin)
    length = gradient.abs().mean()
    if not torch.isfinite(length) or length == 0:
        return part, float(value.detach())
    moved = part + between(phase.step, at) * gradient / length
    return moved.clamp(0, WHITE), float(value.detach())


def crop_of(
    phase: Phase, sides: Sequence[int], size: Sequence[int], generator: torch.Generator
) -> tuple[slice, ...]:
    """Where the next crop of a picture (1, C, *sides) lies; without slack it is all of it."""
    factor = 1.0
    if phase.zoom:
        factor += phase.zoom * (2 * torch.rand((), generator=generator).item() - 1)
    found = [slice(None), slice(None)]
    for side, wanted in zip(sides, size, strict=True):
        length = min(side, max(1, round(wanted * factor)))
        slack = side - length
        shift = phase.spread * slack * torch.randn((), generator=generator).item()
        first = min(max(round(slack / 2 + shift), 0), slack)
        found.append(slice(first, first + length))
    return tuple(found)


def between(pair: tuple[float, float], at: float) -> float:
    """From the first value to the second."""
    return (1 - at) * pair[0] + at * pair[1] if pair[0] != pair[1] else pair[0]


def inside(gradient: Tensor, margin: float) -> Tensor:
    """The gradient with zeros up to `margin` of the side from each edge."""
    if not margin:
        return gradient
    kept = torch.zeros_like(gradient)
    edges = [math.floor(side * margin) for side in gradient.shape[2:]]
    middle = (..., *(slice(edge, -edge or None) for edge in edges))
    kept[middle] = gradient[middle]
    return kept


def blurred(gradient: Tensor, share: float) -> Tensor:
    """The gradient under a Gaussian of this share of the side; below half a pixel, as it is."""
    for dim in range(2, gradient.ndim):
        deviation = share * gradient.shape[dim]
        if deviation < 0.5:
            continue
        reach = min(math.ceil(3 * deviation), gradient.shape[dim] - 1)
        bell = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * deviation**2))
        bell = (bell / bell.sum()).to(gradient).view(1, 1, -1)
        lines = gradient.movedim(dim, -1)
        spread = functional.conv1d(lines.reshape(-1, 1, lines.shape[-1]), bell, padding=reach)
        gradient = spread.view(lines.shape).movedim(-1, dim)
    return gradient


def resized(pictures: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, *size): smoothly, and by cubic splines where a picture grows."""
    if tuple(pictures.shape[2:]) == tuple(size):
        return pictures
    if pictures.ndim == 3:
        return functional.interpolate(
            pictures, size=tuple(size), mode="linear", align_corners=False
        )
    grows = size[0] > pictures.shape[2]
    return functional.interpolate(
        pictures, size=tuple(size), mode="bicubic" if grows else "bilinear", antialias=True
    )
