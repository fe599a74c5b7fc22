"""What the heads of one-stage detectors share: two towers of 3x3 convolutions, read at every
location of every level with the same weights.

    classes (B, A C, H, W)    from the tower for classes
    boxes   (B, A 4, H, W)    from the tower for boxes
    centre  (B, 1, H, W)      from the tower for boxes, where a head says how central a location is

A boxes are said at a location. Weights are N(0, 0.01), and the bias of the classes is such that
each is at first said with probability 0.01. Between the tower's convolutions stands group norm,
which RetinaNet's head lacks: it learns from scratch, on few pictures, with small batches.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from stackwise.layers.pyramid.norms import group_norm
from stackwise.tasks.detection.heads.decoding import Detected, chosen

PRIOR = 0.01
Truth = Sequence[tuple[Tensor, Tensor]]
"""(n, 4) boxes and (n,) class numbers of each picture."""


class Level(NamedTuple):
    """What is said on one level: (B, P, C) logits, (B, P, 4) numbers, (B, P) logits or None; and
    the (height, width) of its map. P counts the locations row by row, the anchors of each together.
    """

    classes: Tensor
    boxes: Tensor
    centre: Tensor | None
    size: tuple[int, int]


class DenseHead(nn.Module):
    """The towers and what is read of them; a subclass says what the numbers mean.

    Args:
        width: channels of the maps. classes: that are told apart.
        strides: pixels between two locations of each level.
        convs: 3x3 convolutions of each tower; 0 where the neck has done their work.
    """

    anchors_each: ClassVar[int] = 1
    has_centre: ClassVar[bool] = False
    has_scales: ClassVar[bool] = False
    overlap: ClassVar[float] = 0.6

    def __init__(self, width: int, classes: int, strides: Sequence[int], convs: int) -> None:
        super().__init__()
        self.classes, self.strides = classes, list(strides)
        self.class_tower, self.box_tower = tower(width, convs), tower(width, convs)
        each = self.anchors_each
        self.says_class = nn.Conv2d(width, each * classes, 3, padding=1)
        self.says_box = nn.Conv2d(width, each * 4, 3, padding=1)
        self.says_centre = nn.Conv2d(width, 1, 3, padding=1) if self.has_centre else None
        self.scales = nn.Parameter(torch.ones(len(self.strides))) if self.has_scales else None
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.constant_(self.says_class.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, for_classes: list[Tensor], for_boxes: list[Tensor]) -> list[Level]:
        """Two lists of (B, width, H_l, W_l), which may be one and the same."""
        found = []
        for level, (one, other) in enumerate(zip(for_classes, for_boxes, strict=True)):
            tall, wide = one.shape[-2:]
            towered = self.box_tower(other)
            boxes = self.says_box(towered)
            if self.scales is not None:
                boxes = boxes * self.scales[level]
            centre = None if self.says_centre is None else self.says_centre(towered).flatten(1)
            classes = by_location(self.says_class(self.class_tower(one)), self.classes)
            found.append(Level(classes, by_location(boxes, 4), centre, (tall, wide)))
        return found

    def losses(self, raw: list[Level], truth: Truth, size: tuple[int, int]) -> dict[str, Tensor]:
        """The parts of the loss of a batch, scalars; their sum is what is learned.

        Args:
            size: (H, W) of the pictures.
        """
        raise NotImplementedError

    def level_boxes(self, level: int, raw: Level) -> Tensor:
        """(B, P, 4) what the numbers of a level mean, in pixels."""
        raise NotImplementedError

    def decode(self, raw: list[Level], size: tuple[int, int]) -> list[Detected]:
        """The boxes of each picture, the surest first."""
        boxes = [self.level_boxes(level, one) for level, one in enumerate(raw)]
        found = []
        for picture in range(len(boxes[0])):
            central = [one.centre[picture].sigmoid() for one in raw if one.centre is not None]
            sure = [one.classes[picture].sigmoid() for one in raw]
            found.append(
                chosen(
                    [one[picture] for one in boxes], sure, size, overlap=self.overlap,
                    weights=central or None,
                )
            )  # fmt: skip
        return found


def tower(width: int, convs: int) -> nn.Sequential:
    """(B, width, H, W) -> the same shape."""
    layers: list[nn.Module] = []
    for _ in range(convs):
        layers += [
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            group_norm(width), nn.ReLU(),
        ]  # fmt: skip
    return nn.Sequential(*layers)


def by_location(map_: Tensor, each: int) -> Tensor:
    """(B, A each, H, W) -> (B, H W A, each)."""
    batch = len(map_)
    return map_.permute(0, 2, 3, 1).reshape(batch, -1, each)


def locations(size: tuple[int, int], stride: int, like: Tensor) -> Tensor:
    """(H W, 2) x and y of the middles of a map's cells, in pixels, row by row."""
    rows, columns = ((torch.arange(side, device=like.device) + 0.5) * stride for side in size)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def joined(raw: list[Level]) -> tuple[Tensor, Tensor, Tensor | None]:
    """What is said on all levels, one after the other."""
    centres = [one.centre for one in raw if one.centre is not None]
    return (
        torch.cat([one.classes for one in raw], dim=1),
        torch.cat([one.boxes for one in raw], dim=1),
        torch.cat(centres, dim=1) if centres else None,
    )
