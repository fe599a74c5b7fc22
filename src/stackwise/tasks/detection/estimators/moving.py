"""Vary training pictures, and move their boxes with them.

    p' = c + M (p - c) + t        c the middle; M a scale, mirrors and quarter turns; t a shift

Each picture has its own M and t, drawn from (seed, epoch, step) alone, so that a resumed run sees
what it would have seen. A box is the hull of its moved corners, cut at the canvas; where less than
`KEEP` of it is left, it goes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stackwise.tasks.detection.estimators.canvases import Canvases
from stackwise.tasks.images.estimators.augmentation import recoloured, step_generator
from stackwise.training.batches import epoch_generator

KEEP = 0.4
"""Share of a box that must be left."""


@dataclass(frozen=True)
class Moves:
    """How pictures are varied.

    Attributes:
        scale: from 1 / scale to scale, log-uniform. shift: of the side, either way, beside what the
            scale leaves room for. mirror: left and right. turn: quarters, and up and down.
        colour: by how much brightness, contrast and saturation vary.
    """

    scale: float = 1.0
    shift: float = 0.0
    mirror: bool = False
    turn: bool = False
    colour: float = 0.0


MOVES = {
    "none": Moves(),
    "move": Moves(scale=1.25, shift=0.1),
    "photo": Moves(scale=1.4, shift=0.1, mirror=True, colour=0.2),
    "aerial": Moves(scale=1.3, shift=0.1, mirror=True, turn=True, colour=0.2),
}


class MovedBatches:
    """Batches of varied pictures: `pixels`, `boxes` (B, N, 4) and `labels` (B, N), -1 where there
    is no box. What is left over of an epoch's new order after whole batches is not seen in it.

    Args:
        normalise: (B, 3, S, S) from 0 to 1 -> what the network takes.
    """

    def __init__(
        self,
        canvases: Canvases,
        batch_size: int,
        moves: Moves,
        *,
        seed: int,
        normalise: Callable[[Tensor], Tensor],
    ) -> None:
        self.canvases, self.batch_size, self.moves = canvases, batch_size, moves
        self.seed, self.normalise = seed, normalise
        most = max([len(one) for one in canvases.boxes] + [1])
        self.boxes = torch.zeros(len(canvases), most, 4)
        self.labels = torch.full((len(canvases), most), -1, dtype=torch.int64)
        for row, (boxes, codes) in enumerate(zip(canvases.boxes, canvases.codes, strict=True)):
            self.boxes[row, : len(boxes)] = torch.from_numpy(boxes)
            self.labels[row, : len(codes)] = torch.from_numpy(codes)

    def __len__(self) -> int:
        return max(len(self.canvases) // self.batch_size, 1)

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of epoch `index` from step `start` on."""
        order = torch.randperm(len(self.canvases), generator=epoch_generator(self.seed, index))
        for step in range(start, len(self)):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            generator = step_generator(self.seed, index, step)
            pixels, boxes, labels = moved(
                self.canvases.take(rows.numpy()), self.boxes[rows], self.labels[rows], self.moves,
                generator,
            )  # fmt: skip
            yield {"pixels": self.normalise(pixels), "boxes": boxes, "labels": labels}


def moved(
    pixels: Tensor, boxes: Tensor, labels: Tensor, how: Moves, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Vary each picture by itself, its boxes with it.

    Args:
        pixels: (B, 3, S, S) from 0 to 1. boxes: (B, N, 4). labels: (B, N), -1 for no box.
    """
    if how.colour:
        pixels = recoloured(pixels, how.colour, generator)
    if how == Moves(colour=how.colour):
        return pixels, boxes, labels
    matrix, shift = drawn_moves(len(pixels), pixels.shape[-1], how, generator)
    boxes, labels = moved_boxes(boxes, labels, matrix, shift, pixels.shape[-1])
    return moved_pixels(pixels, matrix, shift), boxes, labels


def drawn_moves(
    count: int, side: int, how: Moves, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(count, 2, 2) matrices and (count, 2) shifts in pixels."""

    def drawn(*shape: int) -> Tensor:
        return 2 * torch.rand(count, *shape, generator=generator) - 1

    scale = how.scale ** drawn()
    matrix = scale.view(-1, 1, 1) * torch.eye(2).repeat(count, 1, 1)
    if how.mirror:
        matrix[:, 0, 0] *= torch.where(drawn() < 0, -1.0, 1.0)
    if how.turn:
        matrix[:, 1, 1] *= torch.where(drawn() < 0, -1.0, 1.0)
        swapped = (drawn() < 0).view(-1, 1, 1)
        matrix = torch.where(swapped, matrix.flip(1), matrix)
    room = (scale - 1).abs() / 2 + how.shift
    return matrix, drawn(2) * room[:, None] * side


def moved_pixels(pixels: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """(B, 3, S, S), bilinear; grey comes in from outside."""
    back = torch.linalg.inv(matrix)
    offset = -(back @ (2 * shift / pixels.shape[-1])[..., None])
    grid = functional.affine_grid(
        torch.cat([back, offset], dim=2), list(pixels.shape), align_corners=False
    )
    return functional.grid_sample(pixels - 0.5, grid, align_corners=False) + 0.5


def moved_boxes(
    boxes: Tensor, labels: Tensor, matrix: Tensor, shift: Tensor, side: int
) -> tuple[Tensor, Tensor]:
    """(B, N, 4) boxes and (B, N) labels after the same moves; what is lost has label -1."""
    corners = boxes[..., [0, 1, 2, 3]].unflatten(-1, (2, 2)) - side / 2  # (B, N, 2 corners, 2)
    turned = corners @ matrix.transpose(1, 2)[:, None] + shift[:, None, None] + side / 2
    hull = torch.cat([turned.amin(2), turned.amax(2)], dim=-1)
    cut = hull.clamp(0, side)
    whole = (hull[..., 2:] - hull[..., :2]).prod(-1)
    left = (cut[..., 2:] - cut[..., :2]).prod(-1)
    return cut, torch.where((left > 0) & (left >= KEEP * whole), labels, -1)
