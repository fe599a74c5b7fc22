"""The chain as one network: small Mambas whose logits are added up or averaged.

    F_k = nu (f_1 + ... + f_k),    or their mean

Every prefix is a network of its own (`first`). While a chain is trained it grows by one student
at a time (`grown`); those that are there already are frozen.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.shrink.mamba_pkd.chain import SUMS, Mode, chain_weight, staged, start_at_zero
from stackwise.shrink.mamba_pkd.network import Mamba


@keeps_arguments
class MambaChain(nn.Module):
    """(B, C, H, W) -> (B, n_outputs) logits of all students that are there.

    Args:
        planned: the arguments of each student's `Mamba`, the smallest first.
        count: how many of them are there.
        mode: residual and regress add students up, the others average them.
        shrinkage: nu.
        reference: multiply-adds of what the chain's cost is a share of.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        planned: Sequence[dict[str, Any]],
        count: int = 1,
        mode: Mode = "residual",
        shrinkage: float = 1.0,
        reference: float = 1.0,
    ) -> None:
        super().__init__()
        if not 1 <= count <= len(planned):
            raise ModelError(f"a chain of {len(planned)} planned students cannot have {count}")
        self.mode, self.shrinkage, self.reference = mode, shrinkage, reference
        self.students = nn.ModuleList(Mamba(**given) for given in planned[:count])
        if mode in SUMS:
            start_at_zero(self.students[-1])

    def __len__(self) -> int:
        return len(self.students)

    def outputs(self, pixels: Tensor) -> Iterator[Tensor]:
        """f_1, f_2, ... (B, n_outputs) each, computed when they are asked for."""
        features: Tensor | None = None
        for student in cast("list[Mamba]", list(self.students)):
            features = student.features(pixels, features if student.previous else None)
            logits: Tensor = student.head(features)
            yield logits

    def staged(self, pixels: Tensor) -> Iterator[Tensor]:
        """F_1, F_2, ... (B, n_outputs) each, computed when they are asked for."""
        return staged(self.outputs(pixels), self.mode, self.shrinkage)

    def forward(self, pixels: Tensor) -> Tensor:
        """The logits of the whole chain."""
        total = torch.stack(list(self.outputs(pixels))).sum(0)
        return chain_weight(self.mode, len(self), self.shrinkage) * total

    def first(self, count: int) -> "MambaChain":
        """The chain of the first students alone; their weights are the same tensors."""
        if not 1 <= count <= len(self):
            raise ModelError(f"students must be from 1 to {len(self)}, got {count}")
        made = copy.copy(self)  # not a new one, which would draw random weights
        made._modules = {**self._modules, "students": nn.ModuleList(list(self.students)[:count])}
        object.__setattr__(made, "arguments", self.arguments | {"count": count})
        return made

    def grown(self) -> "MambaChain":
        """The chain with one more student, the others frozen."""
        made = MambaChain(**self.arguments | {"count": len(self) + 1})
        made.load_state_dict(self.state_dict(), strict=False)
        return made.freeze()

    def freeze(self) -> "MambaChain":
        """Let all students but the last one be as they are."""
        for student in list(self.students)[:-1]:
            student.requires_grad_(False)
        return self

    def costs(self) -> list[float]:
        """What each student costs, as a share of the reference."""
        found = cast("list[Mamba]", list(self.students))
        return [student.multiply_adds() / self.reference for student in found]


def plan(
    arguments: dict[str, Any], widths: Sequence[int], *, reuse: bool = False
) -> list[dict[str, Any]]:
    """Arguments of students of one block and of these widths; with `reuse` each reads the pooled
    features of the one before as a further token.
    """
    before = [0, *widths[:-1]] if reuse else [0] * len(widths)
    return [
        arguments | {"width": width, "depth": 1, "previous": previous}
        for width, previous in zip(widths, before, strict=True)
    ]
