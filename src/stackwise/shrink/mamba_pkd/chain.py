"""Progressive distillation: what a student of a chain learns, and how the chain predicts.

With g the teacher's logits and f_1, ..., f_K the students', the chain after k students gives

    F_k = nu (f_1 + ... + f_k)                                                        (eq. 1)

and student k is trained with all before it frozen, by the loss of its mode:

    residual:     alpha CE(F_k, y) + (1 - alpha) T^2 KL(softmax(g / T) || softmax(F_k / T))
    regress:      (f_k - (g - F_{k-1}))^2
    boosted:      the weighted edge of B-DISTIL (`boosting`)
    independent:  the residual loss with f_k for F_k: each student on its own
    classic:      the same, for one student that costs as much as a whole chain

A chain of `boosted` or `independent` students gives the mean of their logits, F_k =
(f_1 + ... + f_k) / k. A student whose last layer begins at zero changes nothing before it learns.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.training.distillation import distillation_loss

Mode = Literal["residual", "regress", "boosted", "independent", "classic"]
SUMS = ("residual", "regress")
"""Modes whose students add up; those of the others are averaged."""


def residual_loss(
    output: Tensor, before: Tensor, target: Tensor, teacher: Tensor, *,
    alpha: float = 0.5, temperature: float = 2.0, shrinkage: float = 1.0,
) -> Tensor:  # fmt: skip
    """The distillation loss of F_k = F_{k-1} + nu f_k: what the students before left undone.

    Args:
        output: (B, C) f_k. before: (B, C) F_{k-1} of the same rows, which gets no gradient.
        shrinkage: nu.
    """
    logits = before.detach() + shrinkage * output
    return distillation_loss(logits, target, teacher, alpha=alpha, temperature=temperature)


def regression_loss(output: Tensor, before: Tensor, teacher: Tensor) -> Tensor:
    """Mean over rows and classes of (f_k - (g - F_{k-1}))^2, all (B, C). No labels."""
    return functional.mse_loss(output, (teacher - before).detach())


@torch.no_grad()
def start_at_zero(student: nn.Module) -> None:
    """Set the last linear layer to zero, in place: F_k = F_{k-1} until the student learns."""
    layers = [module for module in student.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ModelError(f"{type(student).__name__} has no linear layer that could begin at zero")
    for parameter in layers[-1].parameters():
        parameter.zero_()


def chain_weight(mode: Mode, students: int, shrinkage: float = 1.0) -> float:
    """What the sum of the first `students` outputs is multiplied with: nu, or 1 / k for a mean."""
    return shrinkage if mode in SUMS else 1 / students


def staged(
    outputs: Iterable[Tensor], mode: Mode = "residual", shrinkage: float = 1.0
) -> Iterator[Tensor]:
    """F_1, F_2, ... (B, C), each made as soon as its output is there: logits, not probabilities.

    Args:
        outputs: f_1, f_2, ...; where it computes them on demand, only those asked for are.
    """
    total: Tensor | None = None
    for k, output in enumerate(outputs, 1):
        total = output if total is None else total + output
        yield chain_weight(mode, k, shrinkage) * total


def until_sure(
    students: Sequence[Callable[[Tensor], Tensor]], x: Tensor, threshold: float,
    mode: Mode = "residual", shrinkage: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Stop for each row at the first k with max softmax(F_k) > threshold.

    Args:
        students: each (B, ...) -> (B, C) logits. x: (B, ...), B at least 1.

    Returns:
        (B, C) logits F_k, and (B,) int64 the k of each row. A student sees only the rows that are
        still open.
    """
    rows = torch.arange(len(x), device=x.device)
    used = torch.zeros_like(rows)
    total: Tensor | None = None
    for k, student in enumerate(students, 1):
        output = student(x[rows])
        total = torch.zeros(len(x), output.shape[1]).to(output) if total is None else total
        total[rows] += output
        used[rows] = k
        logits = chain_weight(mode, k, shrinkage) * total[rows]
        rows = rows[logits.softmax(-1).amax(-1) <= threshold]
        if not len(rows):
            break
    if total is None:
        raise ModelError("a chain needs at least one student, got none")
    weights = [chain_weight(mode, k, shrinkage) for k in range(1, len(students) + 1)]
    return total * total.new_tensor(weights)[used - 1, None], used
