"""How a step learns in either phase: with a penalty towards the base, and under masks.

The gradient of the penalty, lambda / N * sign(theta - theta0), is added as it is. Gradients are
masked before they are clipped: what is clipped is the norm of the masked gradient.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stackwise.adapt.composable_sft.selection import Masks
from stackwise.training.rules import Backprop, Loop


class TowardsBase(Backprop):
    """Ordinary training, with the penalty.

    Args:
        base: theta0 of every parameter that the penalty holds, by name.
        strength: lambda / N.
    """

    def __init__(
        self,
        loss: Callable[[nn.Module, Any], Tensor],
        *,
        base: Mapping[str, Tensor],
        strength: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(loss, **options)
        self.base, self.strength = base, strength
        self.tuned: dict[str, nn.Parameter] = {}

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The parameters that learn."""
        self.tuned = {name: p for name, p in model.named_parameters() if p.requires_grad}
        return super().groups(model)

    @torch.no_grad()
    def take_step(self, loop: Loop, optimizer: Optimizer) -> None:
        """Add the penalty's gradient, then as ever."""
        if self.strength:
            for name, parameter in self.tuned.items():
                if parameter.grad is not None and name in self.base:
                    away = parameter - self.base[name].to(parameter)
                    parameter.grad.add_(away.sign_(), alpha=self.strength)
        super().take_step(loop, optimizer)


class Masked(TowardsBase):
    """Training of the selected entries alone.

    Attributes:
        masks: by name, True where an entry may change; a parameter without one learns whole.
        begins: what each masked parameter is at the beginning, where weight decay moves others.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.masks: Masks = {}
        self.begins: dict[str, Tensor] = {}

    def begin_under(self, masks: Masks, begins: dict[str, Tensor]) -> None:
        """Take the masks of a phase, and what its parameters are at its beginning."""
        self.masks = masks
        self.begins = begins if self.weight_decay else {}

    @torch.no_grad()
    def take_step(self, loop: Loop, optimizer: Optimizer) -> None:
        """Mask the gradients, step, and undo what weight decay did to other entries."""
        for name, mask in self.masks.items():
            parameter = self.tuned[name]
            if mask.device != parameter.device:
                mask = self.masks[name] = mask.to(parameter.device)
            if parameter.grad is not None:
                parameter.grad.mul_(mask)
        super().take_step(loop, optimizer)
        for name, begin in self.begins.items():
            if name in self.masks:
                parameter = self.tuned[name]
                kept = torch.where(self.masks[name], parameter, begin.to(parameter))
                parameter.copy_(kept)

    def state(self) -> dict[str, Tensor]:
        """The masks, which cannot be found again from the weights of this phase."""
        return named_as("mask", self.masks) | named_as("begin", self.begins)

    def load_state(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """Take the masks back."""
        self.masks, self.begins = under("mask", state), under("begin", state)


class Ranked(TowardsBase):
    """The full phase.

    Attributes:
        begins: what its parameters were, to which the next phase goes back.
        before: the rule of the round before.
    """

    begins: dict[str, Tensor]
    before: Masked | None = None

    def state(self) -> dict[str, Tensor]:
        """Where the round began, and what earlier ones selected."""
        masks = {} if self.before is None else self.before.masks
        return named_as("begin", self.begins) | named_as("mask", masks)

    def load_state(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.begins = under("begin", state)
        if self.before is not None:
            self.before.masks = under("mask", state)


def named_as(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under a kind of their own."""
    return {f"{kind}/{name}": tensor for name, tensor in tensors.items()}


def under(kind: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a kind."""
    start = f"{kind}/"
    return {n.removeprefix(start): tensor for n, tensor in state.items() if n.startswith(start)}
