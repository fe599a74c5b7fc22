"""What heads lose: focal loss, smooth L1, the one of GIoU.

focal(p, y) = -a_t (1 - p_t)^gamma log p_t       p_t = p where y = 1, else 1 - p  (1708.02002)
smooth L1   = d^2 / (2 beta) where d < beta, else d - beta / 2
"""

import torch
from torch import Tensor
from torch.nn import functional

from stackwise.layers.batch_statistics import are_several, sum_over_processes
from stackwise.tasks.detection.heads.geometry import generalised_iou

GAMMA, ALPHA = 2.0, 0.25


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """The sum over (..., C) logits and their targets, 0 or 1."""
    p = logits.sigmoid()
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = p + target - 2 * p * target  # 1 - p_t
    weight = ALPHA * target + (1 - ALPHA) * (1 - target)
    return (weight * wrong**GAMMA * each).sum()


def smooth_l1(found: Tensor, wanted: Tensor, beta: float) -> Tensor:
    """The sum over all numbers."""
    return functional.smooth_l1_loss(found, wanted, beta=beta, reduction="sum")


def giou_loss(found: Tensor, wanted: Tensor, weight: Tensor | None = None) -> Tensor:
    """The weighted sum over (n, 4) boxes."""
    lost = 1 - generalised_iou(found, wanted)
    return lost.sum() if weight is None else (lost * weight).sum()


def of_all_rows(total: Tensor, rows: int, least: float) -> Tensor:
    """By what a sum over this process's pictures is divided, so that the mean of the processes'
    losses over their pictures is the sum over the batch by the count of the batch.

    Args:
        total: of this process: a number of locations, or a sum of weights. rows: its pictures.
        least: that the count of the batch is taken for, where it is less.
    """
    if not are_several():
        return total.clamp(min=least)
    everywhere = sum_over_processes(torch.stack([total.detach(), total.new_tensor(rows)]))
    return everywhere[0].clamp(min=least) * rows / everywhere[1]


def one_hot_targets(labels: Tensor, classes: int) -> Tensor:
    """(P,) class numbers, -1 for the background -> (P, C) zeros and ones."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()
