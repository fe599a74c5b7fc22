"""Vary training pictures: moved, mirrored, cut, recoloured, mixed. Off in prediction.

Every draw comes from (seed, epoch, step), so that a run that is resumed sees what it would have
seen. Pictures are tensors (B, C, H, W) scaled to 0..1, before they are normalised.

    mixup    x = m x_i + (1 - m) x_j,  loss = m loss(y_i) + (1 - m) loss(y_j),  m ~ Beta(a, a)
    cutmix   the same with a box of j pasted into i, and m the share that stays

Sources: mixup arXiv 1710.09412, cutmix 1905.04899, random erasing 1708.04896, RandAugment
1909.13719 (here two of the operations below, at one strength).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stackwise.errors import KnobError
from stackwise.tasks.images.estimators.pixels import Pixels
from stackwise.training.batches import ArrayBatches


@dataclass(frozen=True)
class Recipe:
    """How training pictures are varied.

    Attributes:
        shift: by how many of a side's pixels a picture is moved at most, in parts of 1; what
            comes in is the mean colour.
        mirror: whether half of the pictures are mirrored, left and right.
        colour: by how much brightness, contrast and saturation vary, in parts of 1.
        operations: of RandAugment, on each picture; `strength` of these, 0 to 1.
        erase: probability that a box of a picture is overwritten by noise.
        mixup, cutmix: a of Beta(a, a); 0 for none. Where both are given, each batch draws one.
    """

    shift: float = 0.0
    mirror: bool = False
    colour: float = 0.0
    operations: int = 0
    strength: float = 0.3
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0


RECIPES = {
    "none": Recipe(),
    "shift": Recipe(shift=0.1),
    "photo": Recipe(shift=0.125, mirror=True, colour=0.2),
    "mixed": Recipe(shift=0.125, mirror=True, operations=2, mixup=0.8),
    "strong": Recipe(shift=0.125, mirror=True, operations=2, erase=0.25, mixup=0.2, cutmix=1.0),
}


def recipe(name: str) -> Recipe:
    """A recipe by its name."""
    if name not in RECIPES:
        raise KnobError(f"there is no augmentation {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]


class AugmentedBatches(ArrayBatches):
    """Batches of pictures that are varied and normalised.

    A batch has `pixels`, `target`, `weight`, and with mixing `target_other` (B,) and `share` (B,):
    how much of the first class a picture shows.
    """

    def __init__(
        self,
        tensors: Mapping[str, Any],
        batch_size: int,
        *,
        recipe: Recipe,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        super().__init__(tensors, batch_size, seed=seed, shuffle=shuffle)
        self.recipe = recipe

    def __len__(self) -> int:
        """Steps an epoch. A single picture that is left over goes with those before it: over one
        picture batch normalisation has no deviation.
        """
        return max(-(-(self.rows - 1) // self.batch_size), 1)

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of epoch `index` from step `start` on."""
        pixels: Pixels = self.tensors["pixels"]  # type: ignore[assignment]
        order = self.order(index)
        ends = [step * self.batch_size for step in range(len(self))] + [self.rows]
        taken = [order[ends[step] : ends[step + 1]] for step in range(start, len(self))]
        pictures = pixels.stream(taken)
        for step, (rows, scaled) in enumerate(zip(taken, pictures, strict=True), start):
            batch = {name: t[rows] for name, t in self.tensors.items() if name != "pixels"}
            generator = step_generator(self.seed, index, step)
            varied = vary(pixels.sized(scaled), self.recipe, generator, pixels.mean)
            yield mixed({"pixels": pixels.normalised(varied)} | batch, self.recipe, generator)


def step_generator(seed: int, epoch: int, step: int) -> torch.Generator:
    """The random numbers of a step: they depend on (seed, epoch, step) alone."""
    state = np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def vary(pictures: Tensor, how: Recipe, generator: torch.Generator, ground: Tensor) -> Tensor:
    """Vary each picture by itself.

    Args:
        pictures: (B, C, H, W), from 0 to 1.
        ground: (1, C, 1, 1) what comes in from outside.

    Returns:
        (B, C, H, W).
    """
    if how.shift:
        pictures = shifted(pictures, how.shift, generator, ground)
    if how.mirror:
        flipped = torch.rand(len(pictures), generator=generator) < 0.5
        pictures = torch.where(flipped.view(-1, 1, 1, 1), pictures.flip(-1), pictures)
    if how.colour:
        pictures = recoloured(pictures, how.colour, generator)
    for _ in range(how.operations):
        pictures = operated(pictures, how.strength, generator, ground)
    return erased(pictures, how.erase, generator) if how.erase else pictures


def shifted(pictures: Tensor, share: float, generator: torch.Generator, ground: Tensor) -> Tensor:
    """Move each picture by whole pixels, at most `share` of a side."""
    count, _, height, width = pictures.shape
    down, right = round(share * height), round(share * width)
    if not down and not right:
        return pictures
    padded = functional.pad(pictures - ground, (right, right, down, down)) + ground
    top = torch.randint(0, 2 * down + 1, (count, 1), generator=generator)
    left = torch.randint(0, 2 * right + 1, (count, 1), generator=generator)
    rows = (top + torch.arange(height))[:, None, :, None]
    columns = (left + torch.arange(width))[:, None, None, :]
    batch = torch.arange(count)[:, None, None, None]
    return padded[batch, torch.arange(pictures.shape[1])[None, :, None, None], rows, columns]


def recoloured(pictures: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Vary brightness, contrast and saturation, each by a factor within 1 - most .. 1 + most."""

    def factor() -> Tensor:
        drawn = torch.rand(len(pictures), generator=generator)
        return (1 + most * (2 * drawn - 1)).view(-1, 1, 1, 1)

    bright = pictures * factor()
    grey = bright.mean((1, 2, 3), keepdim=True)
    contrasted = grey + (bright - grey) * factor()
    saturation = factor()
    if pictures.shape[1] == 3:
        own = contrasted.mean(1, keepdim=True)
        contrasted = own + (contrasted - own) * saturation
    return contrasted.clamp(0, 1)


def operated(
    pictures: Tensor, strength: float, generator: torch.Generator, ground: Tensor
) -> Tensor:
    """One operation of RandAugment on each picture: turned, sheared, moved, or recoloured."""
    count = len(pictures)
    which = torch.randint(0, 5, (count,), generator=generator)
    by = strength * (2 * torch.rand(count, generator=generator) - 1)
    angle = torch.where(which == 0, by * math.pi / 3, torch.zeros(()))
    shear = torch.where(which == 1, by, torch.zeros(()))
    across = torch.where(which == 2, by, torch.zeros(()))
    down = torch.where(which == 3, by, torch.zeros(()))
    cosine, sine = angle.cos(), angle.sin()
    turned = torch.stack([
        torch.stack([cosine, -sine + shear, across], 1), torch.stack([sine, cosine, down], 1)
    ], 1)  # fmt: skip
    grid = functional.affine_grid(turned, list(pictures.shape), align_corners=False)
    moved = functional.grid_sample(pictures - ground, grid, align_corners=False) + ground
    recolour = (which == 4).view(-1, 1, 1, 1)
    return torch.where(recolour, recoloured(pictures, strength, generator), moved)


def erased(pictures: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Overwrite a box, of 2 to 33 % of a picture, by noise."""
    count, _, height, width = pictures.shape
    noise = torch.rand(pictures.shape, generator=generator)
    hit = torch.rand(count, generator=generator) < probability
    area = 0.02 + 0.31 * torch.rand(count, generator=generator)
    inside = _boxes(area, height, width, generator) & hit.view(-1, 1, 1)
    return torch.where(inside[:, None], noise, pictures)


def _boxes(area: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """(B, H, W) bool: a box of a share of each picture, in its proportions, wholly or partly in."""
    middle_y = torch.rand(len(area), generator=generator) * height
    middle_x = torch.rand(len(area), generator=generator) * width
    half_y, half_x = area.sqrt() * height / 2, area.sqrt() * width / 2
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    in_y = (rows[None] - middle_y[:, None]).abs() <= half_y[:, None]
    in_x = (columns[None] - middle_x[:, None]).abs() <= half_x[:, None]
    return in_y[:, :, None] & in_x[:, None, :]


def mixed(batch: dict[str, Tensor], how: Recipe, generator: torch.Generator) -> dict[str, Tensor]:
    """Mix each picture of a batch with another one, where the recipe says so."""
    ways: list[tuple[Callable[..., Any], float]] = []
    ways += [(_blended, how.mixup)] if how.mixup else []
    ways += [(_pasted, how.cutmix)] if how.cutmix else []
    if not ways or len(batch["target"]) < 2:
        return batch
    which = int(torch.randint(0, len(ways), (1,), generator=generator))
    way, a = ways[which]
    other = torch.randperm(len(batch["target"]), generator=generator)
    drawn = int(torch.randint(0, 2**62, (), generator=generator))
    share = float(np.random.default_rng(drawn).beta(a, a))
    pixels, kept = way(batch["pixels"], batch["pixels"][other], share, generator)
    return batch | {
        "pixels": pixels, "target_other": batch["target"][other],
        "share": torch.full((len(other),), kept),
    }  # fmt: skip


def _blended(
    one: Tensor, other: Tensor, share: float, generator: torch.Generator
) -> tuple[Tensor, float]:
    return share * one + (1 - share) * other, share


def _pasted(
    one: Tensor, other: Tensor, share: float, generator: torch.Generator
) -> tuple[Tensor, float]:
    height, width = one.shape[-2:]
    box = _boxes(torch.tensor([1 - share]), height, width, generator)
    return torch.where(box[:, None], other, one), 1 - float(box.float().mean())
