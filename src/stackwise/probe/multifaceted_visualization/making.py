"""Make the pictures of a unit: one for each facet, and as many from noise beside them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from stackwise.probe.multifaceted_visualization.facets import Facets
from stackwise.probe.multifaceted_visualization.inputs import Shown
from stackwise.probe.multifaceted_visualization.looking import codes_of, coverage, noise, target_of
from stackwise.probe.multifaceted_visualization.maximise import Phase, Target, maximise
from stackwise.probe.multifaceted_visualization.units import Unit
from stackwise.training.session import current_session

Start = Literal["mean", "image", "noise"]


@dataclass(frozen=True)
class Recipe:
    """How pictures are made.

    Attributes:
        start: the facet's mean image, its most central picture, or noise. share: of the steps.
        stay: replaces what the phases say. beside: make as many from noise. seed: of crops, noise.
    """

    phases: Sequence[Phase]
    start: Start = "mean"
    share: float = 1.0
    stay: float | None = None
    beside: bool = True
    seed: int = 0

    @property
    def applied(self) -> list[Phase]:
        """The phases with `stay`."""
        if self.stay is None:
            return list(self.phases)
        return [replace(phase, stay=self.stay) for phase in self.phases]


@dataclass
class Seen:
    """A unit and what was found of it.

    Attributes:
        name: in words. layer: whose codes part its pictures, `codes` (n, D).
        sources: (n,) which picture of the data each exciting one is of. real: (n,) activations.
        members: for each facet its most central pictures. means: (k, C, *S) their mean.
        made, reached: a picture a facet, and its activation. begun: that of the start.
        beside, beside_reached: likewise of the pictures from noise.
        covered: the share of the exciting pictures whose facet was made, by what it was made from.
    """

    unit: Unit
    name: str
    facets: Facets
    layer: str
    codes: Tensor
    sources: list[int]
    real: list[float]
    members: list[Tensor]
    means: Tensor
    made: list[Tensor] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    reached: list[float] = field(default_factory=list)
    beside: list[Tensor] = field(default_factory=list)
    beside_reached: list[float] = field(default_factory=list)
    covered: dict[str, float] = field(default_factory=dict)


def make(of: Shown, every: Sequence[Seen], recipe: Recipe) -> None:
    """Make the pictures of all units, and say how much they cover."""
    whole = sum(len(seen.facets) for seen in every) * (1 + recipe.beside)
    told, began = 0, time.perf_counter()
    session = current_session()

    def tell() -> None:
        nonlocal told
        told += 1
        if session.on_event is not None:
            seconds = time.perf_counter() - began
            session.on_event(
                {
                    "phase": "pictures", "epoch": told, "max_epochs": whole, "step": told,
                    "steps": whole, "metrics": {}, "seconds": seconds,
                    "seconds_left": seconds / told * (whole - told),
                }
            )  # fmt: skip

    for seen in every:
        target, mixing = target_of(of, seen.unit), colours(of.pictures)
        for facet in range(len(seen.facets)):
            seed = recipe.seed * 1000 + facet
            start = _start(of, seen, facet, recipe, seed)
            seen.begun.append(_value(target, start))
            seen.made.append(maximise(target, start, recipe.applied, share=recipe.share,
                                      mixing=mixing, seed=seed))  # fmt: skip
            seen.reached.append(_value(target, seen.made[-1]))
            tell()
        for facet in range(len(seen.facets) if recipe.beside else 0):
            seed = recipe.seed * 1000 + facet
            found = maximise(target, noise(of, seed), recipe.applied, share=recipe.share,
                             mixing=mixing, seed=seed)  # fmt: skip
            seen.beside.append(found)
            seen.beside_reached.append(_value(target, found))
            tell()
        for name, pictures in ((recipe.start, seen.made), ("noise", seen.beside)):
            if pictures:
                codes = codes_of(of, torch.stack(pictures), seen.layer)
                seen.covered[name] = coverage(seen.codes, seen.facets, codes)


def _start(of: Shown, seen: Seen, facet: int, recipe: Recipe, seed: int) -> Tensor:
    if recipe.start == "noise":
        return noise(of, seed)
    return seen.means[facet] if recipe.start == "mean" else seen.members[facet][0]


def _value(target: Target, picture: Tensor) -> float:
    with torch.no_grad():
        return float(target(picture[None], False))


def colours(pictures: Tensor) -> Tensor:
    """(C, C) how the channels of pictures vary together, of mean size 1: natural ones grow bright
    and dark more than they grow red and green.
    """
    flat = pictures.transpose(0, 1).flatten(1)
    spread = torch.atleast_2d(torch.cov(flat))
    size = spread.diagonal().mean()
    return spread / size if float(size) > 0 else torch.eye(len(spread))
