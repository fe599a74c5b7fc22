"""The sub-models of a network: which sizes it may have, and how often each is trained.

A network has axes B_1 .. B_K (width, depth, heads, ffn), each with increasing sizes that end at the
full one. A sub-model b = (b_1 .. b_K) is the first b_j units along every axis; b <= b' in every
axis means that the parameters of b are among those of b'. P is the product of the P_j of the axes:

    uniform     P_j(b) = 1 / K_j
    largest     half of P_j on the full size, the rest even
    geometric   P_j(b) proportional to 2^place: each size twice as often as the one before

or a list of weights, one a sub-model. Sizes are units (64 of the 256 numbers of the stream) or, as
numbers up to 1 with a point, shares of the full size.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from stackwise.errors import KnobError, nearest

Sizes = Mapping[str, int]
"""Units of each axis that a sub-model has."""
AXES = ("width", "depth", "heads", "ffn")
FOLLOWING = ("heads", "ffn")
"""Axes that have the share of the width where no sizes of their own are given."""
MOST_DEPTHS, FIRST_SHARE = 8, 0.3
Named = Literal["uniform", "largest", "geometric"]
Probability = Named | Sequence[float]


@dataclass(frozen=True)
class Extent:
    """How far an axis goes.

    Attributes:
        full: units of the whole network. step: a size is a multiple of it, as heads that share a
            key go together.
        unit: what units are called in an error. why: what makes the step.
    """

    full: int
    step: int = 1
    unit: str = "units"
    why: str = ""


@dataclass(frozen=True)
class SortedSpace:
    """All sub-models of a network, the smallest first and the whole network last.

    Attributes:
        sizes: of each sub-model, every axis named.
        probabilities: of each, summing to 1.
    """

    sizes: tuple[dict[str, int], ...]
    probabilities: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def full(self) -> dict[str, int]:
        """The whole network."""
        return self.sizes[-1]

    @classmethod
    def product(
        cls,
        extents: Mapping[str, Extent],
        *,
        probability: Probability = "uniform",
        **chosen: Sequence[float] | None,
    ) -> "SortedSpace":
        """Every combination of sizes.

        Args:
            extents: the axes that the network has.
            chosen: increasing sizes by axis, `width=(16, 32, 64)` or `width=(0.25, 0.5, 1.0)`. Of
                an axis without, heads and ffn have the share of the width and the others are full.

        Raises:
            KnobError: sizes that do not increase, do not end at the full size or cannot be; an
                axis that the network has not.
        """
        given = {axis: sizes for axis, sizes in chosen.items() if sizes is not None}
        check_axes(given, extents)
        steps = {axis: _increasing(axis, extents[axis], sizes) for axis, sizes in given.items()}
        found = []
        for places in product(*(range(len(sizes)) for sizes in steps.values())):
            part = {axis: steps[axis][place] for axis, place in zip(steps, places, strict=True)}
            weight = 1.0
            if isinstance(probability, str):
                for axis, place in zip(steps, places, strict=True):
                    weight *= _share(probability, place, len(steps[axis]))
            found.append((completed(part, extents), weight))
        return cls._of(found, extents, probability)

    @classmethod
    def explicit(
        cls,
        extents: Mapping[str, Extent],
        submodels: Iterable[Mapping[str, float]],
        *,
        probability: Probability = "uniform",
    ) -> "SortedSpace":
        """Just these sub-models, and the whole network where it is not among them.

        Args:
            submodels: sizes by axis, completed as for `product`.
        """
        found = []
        for one in submodels:
            check_axes(one, extents)
            part = {axis: unit_size(axis, extents[axis], size) for axis, size in one.items()}
            found.append(completed(part, extents))
        if not found:
            raise KnobError("a space needs at least one sub-model; the list is empty")
        full = {axis: extent.full for axis, extent in extents.items()}
        found += [] if full in found else [full]
        places = sorted(found, key=lambda sizes: _share_of(sizes, extents))
        even = isinstance(probability, str)
        weighed = [
            (sizes, _share(str(probability), place, len(places)) if even else 1.0)
            for place, sizes in enumerate(places)
        ]
        return cls._of(weighed, extents, probability)

    @classmethod
    def _of(
        cls,
        found: list[tuple[dict[str, int], float]],
        extents: Mapping[str, Extent],
        probability: Probability,
    ) -> "SortedSpace":
        found = sorted(found, key=lambda one: _share_of(one[0], extents))
        sizes = tuple(one for one, _ in found)
        if len({tuple(one.items()) for one in sizes}) < len(sizes):
            raise KnobError("two of the sub-models are the same; give each of them once")
        if not isinstance(probability, str):
            weights = [float(weight) for weight in probability]
            if len(weights) != len(sizes):
                raise KnobError(
                    f"probability has {len(weights)} weights and there are {len(sizes)} sub-models"
                )
            if min(weights) < 0 or not 0 < sum(weights) < math.inf:
                raise KnobError(f"weights must be at least 0 and not all 0, got {weights}")
        else:
            weights = [weight for _, weight in found]
        total = sum(weights)
        return cls(sizes, tuple(weight / total for weight in weights))

    def within(self, most: Sizes) -> "SortedSpace":
        """The sub-models that a sub-model has itself."""
        kept = [
            (one, p) for one, p in zip(self.sizes, self.probabilities, strict=True)
            if all(one[axis] <= most[axis] for axis in one)
        ]  # fmt: skip
        total = sum(p for _, p in kept) or 1.0
        return SortedSpace(tuple(one for one, _ in kept), tuple(p / total for _, p in kept))

    def draw(self, generator: np.random.Generator, among: int | None = None) -> dict[str, int]:
        """A sub-model by P.

        Args:
            among: only of so many of the largest.
        """
        first = 0 if among is None else len(self) - among
        weights = np.asarray(self.probabilities[first:])
        if not weights.sum():
            return self.full
        place = generator.choice(len(weights), p=weights / weights.sum())
        return self.sizes[first + int(place)]


@dataclass(frozen=True)
class Choice:
    """The sizes that a user asks for, before the network is known.

    Attributes:
        widths, depths, heads, ffns: increasing sizes, or None: of the depth `default_depths`, of
            the others what `SortedSpace.product` says.
    """

    widths: Sequence[float] | None = None
    depths: Sequence[float] | None = None
    heads: Sequence[float] | None = None
    ffns: Sequence[float] | None = None
    probability: Probability = "uniform"

    @property
    def is_given(self) -> bool:
        """Whether any sizes were asked for."""
        return any(s is not None for s in (self.widths, self.depths, self.heads, self.ffns))

    def space(self, extents: Mapping[str, Extent]) -> SortedSpace:
        """The sub-models of a network of these extents."""
        depths = default_depths(extents["depth"].full) if self.depths is None else self.depths
        return SortedSpace.product(
            extents, width=self.widths, depth=depths, heads=self.heads, ffn=self.ffns,
            probability=self.probability,
        )  # fmt: skip


def default_depths(full: int) -> list[int]:
    """Every depth of a stack of at most eight blocks, else eight from three tenths of it on, as
    Sorted LLaMA has 12 to 40 of 40.
    """
    if full <= MOST_DEPTHS:
        return list(range(1, full + 1))
    first = math.ceil(FIRST_SHARE * full)
    return sorted({round(float(depth)) for depth in np.linspace(first, full, MOST_DEPTHS)})


def name_of(sizes: Sizes) -> str:
    """A sub-model in words: `width 64, depth 2`."""
    return ", ".join(f"{axis} {size}" for axis, size in sizes.items())


def check_axes(given: Iterable[str], extents: Mapping[str, Extent]) -> None:
    """Refuse an axis that a network does not have."""
    for axis in given:
        if axis not in AXES:
            raise KnobError(f"there is no axis {axis!r}.{nearest(axis, AXES)}")
        if axis not in extents:
            raise KnobError(f"this network has no axis {axis}; it has {', '.join(extents)}")


def unit_size(axis: str, extent: Extent, size: float) -> int:
    """A size in units: one that is given as a share is rounded up to whole steps.

    Raises:
        KnobError: it is not of the axis.
    """
    if isinstance(size, float) and 0 < size <= 1:
        return min(extent.full, math.ceil(size * extent.full / extent.step - 1e-9) * extent.step)
    units = int(size)
    if units != size or units < 1:
        raise KnobError(f"a size of {axis} is at least 1 or a share up to 1.0, got {size!r}")
    if units > extent.full:
        raise KnobError(f"{axis} {units} exceeds {extent.full} {extent.unit}")
    if units % extent.step:
        raise KnobError(f"{axis} {units} is not a multiple of {extent.step}, {extent.why}")
    return units


def completed(part: Sizes, extents: Mapping[str, Extent]) -> dict[str, int]:
    """Sizes on every axis: those that are not named are full, or follow the width."""
    found = {}
    for axis, extent in extents.items():
        if axis in part:
            found[axis] = part[axis]
        elif axis in FOLLOWING and "width" in part and "width" in extents:
            found[axis] = unit_size(axis, extent, float(part["width"] / extents["width"].full))
        else:
            found[axis] = extent.full
    return found


def _increasing(axis: str, extent: Extent, sizes: Sequence[float]) -> list[int]:
    units = [unit_size(axis, extent, _as_share(size, sizes)) for size in sizes]
    if not units or units[-1] != extent.full or any(a >= b for a, b in zip(units, units[1:])):  # noqa: RUF007
        raise KnobError(
            f"sizes of {axis} must be increasing and end at the full size {extent.full}, got "
            f"{tuple(sizes)}"
        )
    return units


def _as_share(size: float, beside: Sequence[float]) -> float:
    """The 1 of `0.25,0.5,1` is a share, as the sizes beside it are."""
    shares = any(isinstance(one, float) and one < 1 for one in beside)
    return float(size) if shares else size


def _share(probability: str, place: int, count: int) -> float:
    if probability == "uniform" or count == 1:
        return 1 / count
    if probability == "largest":
        return 0.5 if place == count - 1 else 0.5 / (count - 1)
    if probability == "geometric":
        return 2.0**place / (2**count - 1)
    names = ("uniform", "largest", "geometric")
    raise KnobError(f"there is no probability {probability!r}.{nearest(probability, names)}")


def _share_of(sizes: Sizes, extents: Mapping[str, Extent]) -> tuple[float, tuple[int, ...]]:
    """What sub-models are ordered by: roughly, the share of the whole network."""
    share = math.prod(size / extents[axis].full for axis, size in sizes.items())
    return share, tuple(sizes.values())
