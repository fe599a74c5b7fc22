"""The training rule: ordinary training of W * M, with masks M that change on a schedule."""

from typing import Any

import torch
from torch import Tensor, nn

from stackwise.layers.masked_weights import Mask, Place
from stackwise.shrink.gradual_pruning.masks import Choice
from stackwise.shrink.gradual_pruning.schedule import Schedule
from stackwise.training.masked import MaskedBackprop
from stackwise.training.rules import Loop


class GradualRule(MaskedBackprop):
    """`MaskedBackprop` whose masks tighten on the way.

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
        super().__init__(loss, masks=masks, places=places, regrow=regrow, **training)
        self.targets, self.plan, self.initial = targets, schedule, initial
        self.choice = choice or Choice()
        self.updates = set(schedule.updates)
        self.settled = False

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Change the masks where the schedule says so, then learn as ever."""
        if loop.step in self.updates:
            self.prune(loop.step)
        self.settled = loop.step >= self.plan.last
        return super().step(loop, model, batch)

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
