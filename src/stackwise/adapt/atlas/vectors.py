"""Task vectors of one block: how they are added, and multiplied with a gradient.

A donor's weights may lie on disk; its difference from the base is worked out block by block, when
it is asked for, and forgotten again. So memory holds one block of it at a time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from stackwise.adapt.delta import Dense, LowRank, Sparse
from stackwise.adapt.delta.parts import Part
from stackwise.training.distillation import logits_of


@dataclass(frozen=True, eq=False)
class Difference(Part):
    """donor - base of one weight; kept as `Dense` where it is written.

    Attributes:
        base: the weight of the base.
        donor: gives that of the donor, in its own type; called whenever the numbers are needed.
    """

    base: Tensor
    donor: Callable[[], Tensor]
    form: ClassVar[str] = "dense"

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """That of the weight."""
        return tuple(self.base.shape)

    def dense(self, like: Tensor) -> Tensor:
        """The difference, in the type of `like`."""
        return self.donor().to(like) - self.base.to(like)

    def scaled(self, factor: float) -> Self:
        """`factor` times this, in memory."""
        return Dense(self.values() * factor)  # type: ignore[return-value]

    def joined(self, other: Self) -> Self:
        """The sum of the two, in memory."""
        return Dense(self.values() + other.values())  # type: ignore[return-value]

    def values(self) -> Tensor:
        """The difference in float32."""
        return self.dense(torch.empty(0, dtype=torch.float32))

    def tensors(self) -> dict[str, Tensor]:
        """The values."""
        return {"values": self.values()}

    def settings(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """What was written is `Dense`."""
        return Dense(tensors["values"])  # type: ignore[return-value]


def add_to(total: Tensor, part: Part, factor: float) -> None:
    """total += factor * part, in place.

    Args:
        total: of the weight's shape, contiguous.
    """
    if isinstance(part, LowRank):
        a, b = part.a.to(total), part.b.to(total)
        into = total.T if part.transposed else total
        into.addmm_(b, a, alpha=factor * part.scale)
    elif isinstance(part, Sparse):
        values = factor * part.values.to(total)
        total.put_(part.entries.to(total.device), values, accumulate=True)
    else:
        total.add_(part.dense(total), alpha=factor)


def product(part: Part, gradient: Tensor) -> Tensor:
    """< gradient, part >: what a step of the factor before `part` changes in the loss (eq. 2).

    Args:
        gradient: of the weight's shape.

    Returns:
        A scalar.
    """
    if isinstance(part, LowRank):  # < G, s B A > = s < G A^T, B >, without the product B A
        a, b = part.a.to(gradient), part.b.to(gradient)
        turned = gradient.T if part.transposed else gradient
        return part.scale * ((turned @ a.T) * b).sum()
    if isinstance(part, Sparse):
        return gradient.take(part.entries.to(gradient.device)) @ part.values.to(gradient)
    return torch.dot(gradient.reshape(-1), part.dense(gradient).reshape(-1))


@torch.no_grad()
def disentanglement_error(alone: nn.Module, both: nn.Module, *inputs: Any, **named: Any) -> float:
    """The share of inputs that a model with one task vector answers otherwise once another is
     added
    : 0 where tasks do not disturb each other.

     Args:
         alone: theta_0 + Lambda_1 tau_1. both: the same + Lambda_2 tau_2.
        inputs, named: of the first task.
    """
    answers = [logits_of(model(*inputs, **named)).argmax(-1) for model in (alone, both)]
    return float((answers[0] != answers[1]).double().mean())
