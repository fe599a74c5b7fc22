"""The hinge losses of one-vs-rest machines.

    hinge           max(0, 1 - y s)
    squared hinge   max(0, 1 - y s)^2        gradient -2 y max(0, 1 - y s): none beyond the margin

A target of 0 in place of -1 would push the other classes to a score of 0 and say nothing, so that
codes are checked.
"""

from typing import Literal

import torch
from torch import Tensor

from stackwise.errors import DataError

Reduction = Literal["mean", "sum", "none"]
Norm = Literal["l1", "l2"]


def one_vs_rest(target: Tensor, n_classes: int) -> Tensor:
    """(B, n_classes) float32: 1 at the class of each row, -1 elsewhere.

    Args:
        target: (B,) int64 class codes.

    Raises:
        DataError: a code is not below `n_classes`.
    """
    if len(target) and not 0 <= int(target.min()) <= int(target.max()) < n_classes:
        wrong = target[(target < 0) | (target >= n_classes)][0]
        raise DataError(
            f"scores ({len(target)}, {n_classes}) have no column for the label {int(wrong)}"
        )
    codes = torch.full((len(target), n_classes), -1.0, device=target.device)
    return codes.scatter_(1, target[:, None], 1.0)


def hinge(scores: Tensor, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
    """max(0, 1 - y s) of scores (B, C) and codes (B, C) of 1 and -1.

    Raises:
        DataError: shapes differ, or a code is neither 1 nor -1.
    """
    return _reduced(_checked(scores, targets), reduction)


def squared_hinge(scores: Tensor, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
    """max(0, 1 - y s)^2; see `hinge`."""
    return _reduced(_checked(scores, targets).square(), reduction)


def violations(scores: Tensor, targets: Tensor) -> Tensor:
    """(B, C) max(0, 1 - y s): by how much each score falls short of its margin.

    In float32 at least: the square of a large margin overflows in float16.
    """
    scores = scores if scores.dtype == torch.float64 else scores.float()
    return (1 - targets * scores).clamp(min=0)


def _checked(scores: Tensor, targets: Tensor) -> Tensor:
    if scores.shape != targets.shape:
        raise DataError(
            f"scores {tuple(scores.shape)} and codes {tuple(targets.shape)} differ; "
            "one_vs_rest makes codes of labels"
        )
    if not bool((targets.abs() == 1).all()):
        raise DataError("codes of the hinge are 1 and -1; one_vs_rest makes them of labels")
    return violations(scores, targets)


def _reduced(losses: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()
