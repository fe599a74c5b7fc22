"""FCOS's head: a location says its distances to the four sides of a box (arXiv 1904.01355).

said       s exp(scale_l t), distances to the left, top, right and bottom      s the stride
assigned   a location within 1.5 s of a box's centre, and in the box, whose farthest side is
           between 4 s and 8 s away (the first level from 0, the last without end); of several
           boxes the smallest
centre     sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), learned by cross-entropy; by it
           the score of the class is multiplied
loss       focal / N + GIoU weighted by centre / sum of centres + cross-entropy / N
"""

from functools import partial

import torch
from torch import Tensor

from stackwise.tasks.detection.heads.centred import Assign, CentredHead, distances
from stackwise.tasks.detection.heads.dense import Level, locations
from stackwise.tasks.detection.heads.geometry import MOST_ENLARGED, areas, centres

RADIUS = 1.5
REACH = 8


class FCOSHead(CentredHead):
    """See the module."""

    def level_boxes(self, level: int, raw: Level) -> Tensor:
        """(B, P, 4)."""
        stride = self.strides[level]
        middle = locations(raw.size, stride, raw.boxes)
        reach = raw.boxes.float().clamp(max=MOST_ENLARGED).exp() * stride
        return torch.cat([middle - reach[..., :2], middle + reach[..., 2:]], dim=-1)

    def assigning(self, raw: list[Level]) -> tuple[Tensor, Assign]:
        """The middles of all cells, and which box each learns."""
        middles = [locations(one.size, self.strides[n], one.boxes) for n, one in enumerate(raw)]
        of_level = torch.cat([
            torch.full((len(one),), level, device=one.device) for level, one in enumerate(middles)
        ])  # fmt: skip
        middle = torch.cat(middles)
        return middle, partial(assigned_by_centre, middle, of_level, self.strides)


def assigned_by_centre(
    middle: Tensor, of_level: Tensor, strides: list[int], boxes: Tensor
) -> Tensor:
    """(P,) int64 the box that each location learns, -1 for the background.

    Args:
        middle: (P, 2). of_level: (P,) the number of each one's level. boxes: (n, 4).
    """
    if not len(boxes):
        return torch.full((len(middle),), -1, dtype=torch.int64, device=middle.device)
    stride = middle.new_tensor(strides)[of_level]
    away = distances(middle[:, None], boxes[None])  # (P, n, 4)
    low = torch.maximum(centres(boxes)[None] - RADIUS * stride[:, None, None], boxes[None, :, :2])
    high = torch.minimum(centres(boxes)[None] + RADIUS * stride[:, None, None], boxes[None, :, 2:])
    inside = ((middle[:, None] > low) & (middle[:, None] < high)).all(-1)
    farthest = away.amax(-1)
    least, most = stride * REACH / 2, stride * REACH
    least = torch.where(of_level == 0, least.new_zeros(()), least)
    most = torch.where(of_level == len(strides) - 1, most.new_tensor(torch.inf), most)
    fits = inside & (farthest >= least[:, None]) & (farthest < most[:, None])
    size = torch.where(fits, areas(boxes)[None].expand_as(fits), torch.inf)
    smallest, which = size.min(1)
    return torch.where(smallest < torch.inf, which, -1)
