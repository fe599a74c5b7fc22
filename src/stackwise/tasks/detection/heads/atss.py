"""ATSS's head: how much an anchor must overlap a box, each box says itself (arXiv 1912.02424).

anchors    one square of 8 s a location                                   s the stride
of a box   the 9 anchors of each level whose centres are nearest are candidates; those with
           IoU >= mean + deviation of the candidates' IoU, and the centre in the box, learn it;
           of several boxes the one of the largest IoU
said       the box coded against the anchor, std (0.1, 0.1, 0.2, 0.2), times a scale a level
loss       focal / N + 2 GIoU weighted by centre / sum of centres + cross-entropy of centre / N
"""

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from stackwise.tasks.detection.heads.centred import Assign, CentredHead
from stackwise.tasks.detection.heads.dense import Level, locations
from stackwise.tasks.detection.heads.geometry import centres, decoded, pairwise_iou

SIDE = 8
CANDIDATES = 9
STD = (0.1, 0.1, 0.2, 0.2)


class ATSSHead(CentredHead):
    """See the module."""

    boxes_weight: ClassVar[float] = 2.0

    def level_anchors(self, level: int, raw: Level) -> Tensor:
        """(P, 4)."""
        stride = self.strides[level]
        middle = locations(raw.size, stride, raw.boxes)
        return torch.cat([middle - SIDE * stride / 2, middle + SIDE * stride / 2], dim=1)

    def level_boxes(self, level: int, raw: Level) -> Tensor:
        """(B, P, 4)."""
        std = torch.tensor(STD, device=raw.boxes.device)
        return decoded(raw.boxes.float(), self.level_anchors(level, raw), std)

    def assigning(self, raw: list[Level]) -> tuple[Tensor, Assign]:
        """The middles of all anchors, and which box each learns."""
        levels = [self.level_anchors(level, one) for level, one in enumerate(raw)]
        every = torch.cat(levels)
        of_levels = [len(one) for one in levels]
        return centres(every), partial(assigned_by_statistics, every, of_levels)


def assigned_by_statistics(every: Tensor, of_levels: list[int], boxes: Tensor) -> Tensor:
    """(P,) int64 the box that each anchor learns, -1 for the background.

    Args:
        every: (P, 4) anchors, level after level. of_levels: how many each level has.
        boxes: (n, 4).
    """
    if not len(boxes):
        return torch.full((len(every),), -1, dtype=torch.int64, device=every.device)
    overlaps = pairwise_iou(every, boxes)  # (P, n)
    middle = centres(every)
    away = (middle[:, None] - centres(boxes)[None]).square().sum(-1)
    near, first = [], 0
    for count in of_levels:
        part = away[first : first + count]
        near.append(part.topk(min(CANDIDATES, count), dim=0, largest=False).indices + first)
        first += count
    candidates = torch.cat(near)  # (K, n)
    theirs = overlaps.gather(0, candidates)
    least = theirs.mean(0) + theirs.std(0)
    low, high = middle[candidates] - boxes[None, :, :2], boxes[None, :, 2:] - middle[candidates]
    within = torch.cat([low, high], dim=-1).amin(-1) > 0.01
    good = (theirs >= least) & within
    learned = torch.full_like(overlaps, -1.0)
    learned.scatter_(0, candidates, torch.where(good, theirs, -1.0))
    best, which = learned.max(1)
    return torch.where(best >= 0, which, -1)
