"""RetinaNet's head: nine anchors a location, boxes coded against them (arXiv 1708.02002).

anchors    sides 4 s * 2^(0, 1/3, 2/3), height / width 0.5, 1, 2         s the stride
assigned   IoU >= 0.5: that box; < 0.4: background; between: not learned from. Of each box the
           best anchor, whatever its IoU
loss       (focal + smooth L1, beta 0.11) / number of assigned anchors
"""

from typing import ClassVar

import torch
from torch import Tensor

from stackwise.tasks.detection.heads.dense import DenseHead, Level, Truth, joined, locations
from stackwise.tasks.detection.heads.geometry import decoded, encoded, pairwise_iou
from stackwise.tasks.detection.heads.losses import (
    focal_loss,
    of_all_rows,
    one_hot_targets,
    smooth_l1,
)

BACKGROUND, IGNORED = -1, -2
POSITIVE, NEGATIVE = 0.5, 0.4
BASE, SCALES, RATIOS = 4, (1.0, 2 ** (1 / 3), 2 ** (2 / 3)), (0.5, 1.0, 2.0)
BETA = 0.11


class RetinaHead(DenseHead):
    """See the module."""

    anchors_each: ClassVar[int] = len(SCALES) * len(RATIOS)
    overlap: ClassVar[float] = 0.5

    def level_anchors(self, level: int, raw: Level) -> Tensor:
        """(P, 4)."""
        return anchors(raw.size, self.strides[level], raw.boxes)

    def level_boxes(self, level: int, raw: Level) -> Tensor:
        """(B, P, 4)."""
        return decoded(raw.boxes, self.level_anchors(level, raw), raw.boxes.new_ones(4))

    def losses(self, raw: list[Level], truth: Truth, size: tuple[int, int]) -> dict[str, Tensor]:
        """`focal` and `smooth_l1`."""
        every = torch.cat([self.level_anchors(level, one) for level, one in enumerate(raw)])
        logits, numbers, _ = joined(raw)
        focal, moved, positives = (logits.new_zeros(()) for _ in range(3))
        one = every.new_ones(4)
        for picture, (boxes, labels) in enumerate(truth):
            of = assigned_by_overlap(every, boxes)
            said = torch.full_like(of, -1)
            positive = (of >= 0).nonzero()[:, 0]
            said[positive] = labels[of[positive]]
            learned = of != IGNORED
            target = one_hot_targets(said[learned], self.classes)
            focal = focal + focal_loss(logits[picture][learned].float(), target)
            if len(positive):
                wanted = encoded(boxes[of[positive]], every[positive], one)
                found = numbers[picture][positive].float()
                moved = moved + smooth_l1(found, wanted, BETA)
            positives = positives + len(positive)
        count = of_all_rows(positives, len(truth), 1.0)
        return {"focal": focal / count, "smooth_l1": moved / count}


def anchors(size: tuple[int, int], stride: int, like: Tensor) -> Tensor:
    """(H W 9, 4) around the middles of a map's cells."""
    middle = locations(size, stride, like)
    sides = [
        (BASE * stride * scale / ratio**0.5, BASE * stride * scale * ratio**0.5)
        for ratio in RATIOS for scale in SCALES
    ]  # fmt: skip
    half = torch.tensor(sides, device=like.device) / 2  # (9, 2) width and height
    low, high = middle[:, None] - half[None], middle[:, None] + half[None]
    return torch.cat([low, high], dim=-1).reshape(-1, 4)


def assigned_by_overlap(every: Tensor, boxes: Tensor) -> Tensor:
    """(P,) int64 the box that each anchor learns, `BACKGROUND` or `IGNORED`.

    Args:
        every: (P, 4) anchors. boxes: (n, 4).
    """
    found = torch.full((len(every),), BACKGROUND, dtype=torch.int64, device=every.device)
    if not len(boxes):
        return found
    overlaps = pairwise_iou(boxes, every)
    best, which = overlaps.max(0)
    found[best >= NEGATIVE] = IGNORED
    found = torch.where(best >= POSITIVE, which, found)
    most = overlaps.max(1, keepdim=True).values
    box, anchor = ((overlaps == most) & (most > 0)).nonzero(as_tuple=True)
    found[anchor] = box  # of two boxes with one best anchor the later one has it
    return found
