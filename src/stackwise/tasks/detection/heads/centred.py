"""What FCOS's head and ATSS's share: locations that learn a box, and how central they are in it.

loss       focal / N + w GIoU weighted by centre / sum of centres + cross-entropy of centre / N
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from stackwise.tasks.detection.heads.dense import DenseHead, Level, Truth, joined
from stackwise.tasks.detection.heads.losses import (
    focal_loss,
    giou_loss,
    of_all_rows,
    one_hot_targets,
)

Assign = Callable[[Tensor], Tensor]
"""(n, 4) boxes -> (P,) int64 the box that each location learns, -1 for the background."""


class CentredHead(DenseHead):
    """A head that says how central a location is; a subclass says which box it learns."""

    has_centre: ClassVar[bool] = True
    has_scales: ClassVar[bool] = True
    boxes_weight: ClassVar[float] = 1.0

    def assigning(self, raw: list[Level]) -> tuple[Tensor, Assign]:
        """(P, 2) the middles of all locations, and how boxes are assigned to them."""
        raise NotImplementedError

    def losses(self, raw: list[Level], truth: Truth, size: tuple[int, int]) -> dict[str, Tensor]:
        """`focal`, `giou` and `centre`."""
        middle, assigned = self.assigning(raw)
        said = torch.cat([self.level_boxes(level, one) for level, one in enumerate(raw)], dim=1)
        logits, _, central = joined(raw)
        assert central is not None
        focal, found, wanted, logit, target = logits.new_zeros(()), [], [], [], []
        for picture, (boxes, labels) in enumerate(truth):
            of = assigned(boxes)
            positive = (of >= 0).nonzero()[:, 0]
            learned = torch.full_like(of, -1)
            learned[positive] = labels[of[positive]]
            hot = one_hot_targets(learned, self.classes)
            focal = focal + focal_loss(logits[picture].float(), hot)
            found.append(said[picture][positive])
            wanted.append(boxes[of[positive]])
            logit.append(central[picture][positive].float())
            target.append(centreness(middle[positive], boxes[of[positive]]))
        return centred_losses(
            focal, torch.cat(found), torch.cat(wanted), torch.cat(logit), torch.cat(target),
            pictures=len(truth), boxes_weight=self.boxes_weight,
        )  # fmt: skip


def centred_losses(
    focal: Tensor, found: Tensor, wanted: Tensor, logit: Tensor, target: Tensor,
    *, pictures: int, boxes_weight: float = 1.0,
) -> dict[str, Tensor]:  # fmt: skip
    """`focal`, `giou` and `centre` of a batch.

    Args:
        focal: the sum over all locations. found, wanted: (N, 4) boxes of the assigned ones.
        logit, target: (N,) how central these are. pictures: of this process.
    """
    count = of_all_rows(target.new_tensor(float(len(found))), pictures, 1.0)
    weight = of_all_rows(target.sum(), pictures, 1e-6)
    central = functional.binary_cross_entropy_with_logits(logit, target, reduction="sum")
    return {
        "focal": focal / count,
        "giou": boxes_weight * giou_loss(found, wanted, target) / weight,
        "centre": central / count,
    }


def distances(middle: Tensor, boxes: Tensor) -> Tensor:
    """(..., 2) locations and (..., 4) boxes -> (..., 4) to the left, top, right, bottom side."""
    return torch.cat([middle - boxes[..., :2], boxes[..., 2:] - middle], dim=-1)


def centreness(middle: Tensor, boxes: Tensor) -> Tensor:
    """(n, 2) locations in (n, 4) boxes -> (n,) from 0, at a side, to 1."""
    across = distances(middle, boxes)[:, [0, 2]].clamp(min=0)
    down = distances(middle, boxes)[:, [1, 3]].clamp(min=0)
    share = (across.amin(1) / across.amax(1).clamp(min=1e-6)) * (
        down.amin(1) / down.amax(1).clamp(min=1e-6)
    )
    return share.sqrt()
