"""From the numbers of every location to a list of boxes: threshold, best of each level, NMS.

Non-maximum suppression goes class by class: the surest box stays, those that overlap it by more
than a threshold go, and so on. It is exact (`tests` hold it against the plain loop): no torchvision
is needed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stackwise.tasks.detection.heads.geometry import pairwise_iou

SCORE = 0.05
"""Boxes less sure than this are dropped."""
EACH_LEVEL = 1000
"""Boxes of a level that go into NMS, the surest."""
KEPT = 100
"""Boxes of a picture that stay."""


class Detected(NamedTuple):
    """What was found in a picture, the surest first.

    Attributes:
        boxes: (n, 4) x1, y1, x2, y2. scores: (n,). labels: (n,) class numbers.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """(k,) the rows of (n, 4) boxes that stay, the surest first.

    Args:
        threshold: a box goes whose IoU with a surer one that stays is larger.
    """
    order = scores.argsort(descending=True, stable=True)
    over = (pairwise_iou(boxes[order], boxes[order]) > threshold).cpu().numpy()
    gone = np.zeros(len(over), dtype=bool)
    kept = []
    for place in range(len(over)):
        if not gone[place]:
            kept.append(place)
            gone |= over[place]
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


def nms_by_class(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """(k,) the rows that stay where only boxes of one class drive each other out, the surest first;
    ties keep their order.
    """
    kept = [
        rows[nms(boxes[rows], scores[rows], threshold)]
        for rows in ((labels == label).nonzero()[:, 0] for label in labels.unique().tolist())
    ]
    if not kept:
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    every = torch.cat(kept).sort().values
    return every[scores[every].argsort(descending=True, stable=True)]


def chosen(
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    size: tuple[int, int],
    *,
    overlap: float,
    weights: Sequence[Tensor] | None = None,
) -> Detected:
    """The boxes of one picture.

    Args:
        boxes: (P_l, 4) of each level. scores: (P_l, C) probabilities of each.
        size: (H, W) of the picture, to which boxes are cut.
        overlap: the threshold of NMS.
        weights: (P_l,) by which scores are multiplied once they are above the threshold.
    """
    found = []
    for level, (places, likely) in enumerate(zip(boxes, scores, strict=True)):
        rows, labels = (likely > SCORE).nonzero(as_tuple=True)
        sure = likely[rows, labels]
        if weights is not None:
            sure = sure * weights[level][rows]
        best = sure.argsort(descending=True, stable=True)[:EACH_LEVEL]
        found.append((places[rows[best]], sure[best], labels[best]))
    where, sure, labels = (torch.cat(part) for part in zip(*found, strict=True))
    height, width = size
    limits = where.new_tensor([width, height, width, height])
    where = torch.minimum(where.clamp(min=0), limits)
    solid = ((where[:, 2:] - where[:, :2]) > 0).all(1)
    where, sure, labels = where[solid], sure[solid], labels[solid]
    kept = nms_by_class(where, sure, labels, overlap)[:KEPT]
    return Detected(where[kept], sure[kept], labels[kept])
