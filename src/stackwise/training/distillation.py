"""Distillation: learning from what a teacher answers besides the labels.

With g the teacher's logits, z the student's, y the label and T the temperature,

    loss = alpha CE(z, y) + (1 - alpha) T^2 KL(softmax(g / T) || softmax(z / T))          (eq. 1)

T above 1 shows how the teacher ranks the wrong classes too; T^2 makes up for the gradient's
1 / T^2, so that alpha means the same at every T. Of numbers, with t the teacher's answer,

    loss = alpha (z - y)^2 + (1 - alpha) (z - t)^2                                        (eq. 2)

Probabilities are as good as logits: log p differs from g by a number a row, which softmax forgets.

Source: arXiv 1503.02531. Differs: alpha is the share of the labels, as most code has it.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
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


def teacher_losses(output: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """How far outputs are from what a teacher answered: `soft_losses`, or of a number the square.

    Args:
        output: (..., C), C = 1 for a number. teacher: of the same shape, or one that expands to it.

    Returns:
        (...,) losses.
    """
    output, teacher = output.float(), teacher.detach().float().expand_as(output)
    if output.shape[-1] == 1:
        return (output - teacher).square().squeeze(-1)
    return soft_losses(output, teacher, temperature)


class TaughtBy:
    """Any loss of a module beside a teacher of the same inputs; called as that loss is.

        alpha * loss(model, batch) + (1 - alpha) * mean of teacher_losses

    The teacher is given what the model is called with in `loss`, batch by batch, so that it sees
    pictures as they are varied; answers (B, C) are outputs or what they hold as `logits`.

    Args:
        loss: (model, batch) -> scalar, which calls the model once.
        teacher: left as it is, in evaluation mode.
    """

    def __init__(
        self,
        loss: Callable[[nn.Module, Any], Tensor],
        teacher: nn.Module,
        *,
        alpha: float = 0.5,
        temperature: float = 2.0,
    ) -> None:
        self.loss, self.alpha, self.temperature = loss, alpha, temperature
        self.teacher = teacher.eval().requires_grad_(False)

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss of a batch."""
        if self.alpha == 1:
            return self.loss(model, batch)
        called: list[tuple[Any, Any, Any]] = []
        hook = model.register_forward_hook(
            lambda _, args, named, output: called.append((args, named, output)), with_kwargs=True
        )
        try:
            hard = self.loss(model, batch)
        finally:
            hook.remove()
        args, named, output = called[0]
        output = logits_of(output)
        self.teacher.to(output.device)
        with torch.no_grad():
            answers = logits_of(self.teacher(*args, **named))
        soft = teacher_losses(output, answers, self.temperature).mean()
        return self.alpha * hard + (1 - self.alpha) * soft


def logits_of(output: Any) -> Tensor:
    """A module's output, or what it holds as `logits`."""
    found = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(found, Tensor):
        raise ModelError(f"a {type(output).__name__} is neither logits nor holds them as .logits")
    return found


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
