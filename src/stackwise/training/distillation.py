"""Distillation: learning from what a teacher answers besides the labels.

With g the teacher's logits, z the student's, y the label and T the temperature,

    loss = alpha CE(z, y) + (1 - alpha) T^2 KL(softmax(g / T) || softmax(z / T))          (eq. 1)

T above 1 shows how the teacher ranks the wrong classes too; T^2 makes up for the gradient's
1 / T^2, so that alpha means the same at every T. Of numbers, with t the teacher's answer,

    loss = alpha (z - y)^2 + (1 - alpha) (z - t)^2                                        (eq. 2)

Probabilities are as good as logits: log p differs from g by a number a row, which softmax forgets.

Source: arXiv 1503.02531. Differs: alpha is the share of the labels, as most code has it.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from stackwise.errors import DataError, ModelError


def soft_losses(output: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """T^2 KL(softmax(g / T) || softmax(z / T)) of each row.

    Args:
        output, teacher: (..., C) logits; the teacher's get no gradient.

    Returns:
        (...,) losses.
    """
    wanted = (teacher.detach() / temperature).log_softmax(-1)
    found = (output / temperature).log_softmax(-1)
    divergence = functional.kl_div(found, wanted, reduction="none", log_target=True).sum(-1)
    return temperature**2 * divergence


def soft_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The mean of `soft_losses` over a batch."""
    return soft_losses(logits, teacher, temperature).mean()


def distillation_loss(
    logits: Tensor, target: Tensor, teacher: Tensor, *, alpha: float = 0.5, temperature: float = 2.0
) -> Tensor:
    """Equation 1, mean of a batch.

    Args:
        logits: (B, C). target: (B,) int64. teacher: (B, C) logits, which get no gradient.
        alpha: share of the labels, from 0 to 1. temperature: T, above 0.
    """
    if not 0 <= alpha <= 1:
        raise ModelError(f"alpha must be in [0, 1], got {alpha}")
    if temperature <= 0:
        raise ModelError(f"temperature must be above 0, got {temperature}")
    loss = logits.new_zeros(())
    if alpha > 0:
        loss = loss + alpha * functional.cross_entropy(logits, target)
    if alpha < 1:
        loss = loss + (1 - alpha) * soft_loss(logits, teacher, temperature)
    return loss


def are_probabilities(output: Tensor) -> bool:
    """Whether each row (..., C) is of numbers from 0 on that sum to 1; logits are not by chance."""
    sums = output.double().sum(-1)
    return bool((output >= 0).all() and (sums - 1).abs().max() < 1e-3)


def checked_teacher(
    output: Tensor, classes: int, *, kind: Literal["logits", "probabilities"] = "logits"
) -> Tensor:
    """The teacher's logits (N, C), from its logits or its probabilities (then log p).

    Raises:
        DataError: the teacher has other classes than the labels, or a value that is no number.
    """
    if output.shape[-1] != classes:
        raise DataError(
            f"the teacher returns {output.shape[-1]} classes, the labels have {classes}"
        )
    check_finite(output)
    if kind == "logits":
        return output
    return output.clamp_min(torch.finfo(output.dtype).tiny).log()


def check_finite(output: Tensor) -> None:
    """Raises:
    DataError: the teacher answered a row (N, ...) with something that is no number.
    """
    bad = (~output.isfinite()).flatten(1).any(1) if output.ndim > 1 else ~output.isfinite()
    if bad.any():
        raise DataError(f"the teacher's output of row {int(bad.nonzero()[0, 0])} is not finite")
