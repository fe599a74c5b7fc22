"""The training rule: ordinary training of W * M, with masks M that change on a schedule.

The product is a parametrization of torch, so that gradients are masked by themselves,
dL/dW = M * dL/d(W * M), and any module works. What autograd does not do is done here: momentum and
weight decay would still move a masked weight.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from stackwise.shrink.gradual_pruning.masks import Choice, Place
from stackwise.shrink.gradual_pruning.schedule import Schedule
from stackwise.training.rules import Backprop, Loop


class Mask(nn.Module):
    """The parametrization W -> W * M.

    M is a buffer, so that checkpoints hold it, of the weight's own type, so that the product needs
    no cast.
    """

    kept: Tensor

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", torch.ones_like(like))

    @property
    def mask(self) -> Tensor:
        """bool, of the weight's shape: what stays."""
        return self.kept.bool()

    def set(self, mask: Tensor) -> None:
        """Take another mask."""
        self.kept.copy_(mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.kept


def attach(places: dict[str, Place]) -> dict[str, Mask]:
    """Put a mask of ones on each weight; a tied weight's holders share one."""
    masks = {}
    for name, place in places.items():
        masks[name] = Mask(place.parameter)
        for module, attribute in place.holders:
            parametrize.register_parametrization(module, attribute, masks[name], unsafe=True)
            if isinstance(module, nn.RNNBase):
                # recurrent layers compute with a list of their own, made anew before each pass
                module.register_forward_pre_hook(_refresh_flat_weights)
    return masks


def _refresh_flat_weights(module: nn.Module, args: Any) -> None:
    assert isinstance(module, nn.RNNBase)
    module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]


def detach(places: dict[str, Place]) -> None:
    """Bake W <- W * M into the weights and take the masks off; the original names are back."""
    for place in places.values():
        for module, attribute in place.holders:
            order = list(module._parameters)
            parametrize.remove_parametrizations(module, attribute, leave_parametrized=True)
            _restore_order(module, attribute, order)
        for module, _ in place.holders:
            if isinstance(module, nn.RNNBase):
                hooks = module._forward_pre_hooks
                for key in [k for k, hook in hooks.items() if hook is _refresh_flat_weights]:
                    del hooks[key]
                module._flat_weights = [getattr(module, n) for n in module._flat_weights_names]


def _restore_order(module: nn.Module, attribute: str, others: list[str]) -> None:
    """Put a weight back before its bias, where constructors register it."""
    if attribute == "weight":
        for name in others:
            module._parameters[name] = module._parameters.pop(name)


class GradualRule(Backprop):
    """`Backprop` on masked weights.

    Args:
        masks, places: of `attach` and `prunable`, by weight.
        targets: the final sparsity by weight.
        choice: how the weights that stay are chosen; by default in each weight for itself.
        regrow: True keeps the value of a masked weight, which may come back in a later mask
            (the paper); False sets it to zero, so that it never does.
    """

    def __init__(
        self,
        loss: Any,
        *,
        masks: dict[str, Mask],
        places: dict[str, Place],
        targets: dict[str, float],
        schedule: Schedule,
        initial: float = 0.0,
        choice: Choice | None = None,
        regrow: bool = True,
        **training: Any,
    ) -> None:
        super().__init__(loss, **training)
        self.masks, self.places, self.targets = masks, places, targets
        self.plan, self.initial, self.regrow = schedule, initial, regrow
        self.choice = choice or Choice()
        self.updates = set(schedule.updates)
        self.frozen: dict[str, Tensor] = {}
        self.settled = False

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Change the masks where the schedule says so, then learn as ever."""
        if loop.step in self.updates:
            self.prune(loop.step)
        self.settled = loop.step >= self.plan.last
        return super().step(loop, model, batch)

    def update(self, loop: Loop, optimizer: Optimizer) -> None:
        """Step the optimizer, then put masked weights back where they were."""
        if self.regrow:
            resting = {name: self._frozen(name) for name in self.masks}
        super().update(loop, optimizer)
        with torch.no_grad():
            for name, mask in self.masks.items():
                weight = self.places[name].parameter
                if self.regrow:
                    weight.copy_(torch.where(mask.mask, weight, resting[name]))
                else:
                    weight.mul_(mask.kept)
                    for value in optimizer.state[weight].values():
                        if value.shape == weight.shape:
                            value.mul_(mask.kept)

    def state(self) -> dict[str, Tensor]:
        """Whether the masks are final; the masks themselves are buffers of the model."""
        return {"settled": torch.tensor(self.settled)}

    def load_state(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.settled = bool(state["settled"])

    def prune(self, step: int) -> None:
        """Set the masks of an update step."""
        weights = {name: self.places[name].parameter for name in self.masks}
        wanted = {
            name: self.plan.sparsity(step, initial=min(self.initial, target), final=target)
            for name, target in self.targets.items()
        }
        fresh = self.choice.masks(weights, wanted)
        for name, mask in fresh.items():
            self.masks[name].set(mask)
            if not self.regrow:
                with torch.no_grad():
                    weights[name].mul_(mask)
        self.frozen = {}

    def _frozen(self, name: str) -> Tensor:
        """The values at which masked weights rest; unmasked places of it are not looked at."""
        if name not in self.frozen:
            self.frozen[name] = self.places[name].parameter.detach().clone()
        return self.frozen[name]
