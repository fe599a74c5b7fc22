"""The rules of the phases: ordinary learning with a penalty, and the slow commitment of gates.

    loss + lambda * mean over gates of H(g),      T(step) = 0.05^(step / steps) where it anneals

Source: arXiv 2408.08338. Differs from the paper: its rules were not readable.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.build.skan.gates import top
from stackwise.build.skan.selectable import SelectableNetwork
from stackwise.training.rules import Backprop, Loop

COLDEST = 0.05


class GateRule(Backprop):
    """`Backprop` on the loss of the rows and the entropy of the gates.

    Args:
        settles_on: rows over which a network that drew its families in training takes its
            statistics anew before it is judged by those that lead.
    """

    def __init__(
        self,
        loss: Any,
        *,
        entropy: float = 0.0,
        anneal: bool = False,
        settles_on: Mapping[str, Tensor] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(self._with_entropy, **options)
        self.of_rows = loss
        self.entropy, self.anneal, self.settles_on = entropy, anneal, settles_on
        self.last: list[Tensor] = []

    def _with_entropy(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        loss: Tensor = self.of_rows(model, batch)
        if self.entropy and isinstance(model, SelectableNetwork):
            loss = loss + self.entropy * sum(layer.entropy() for layer in model.selectable)
        return loss

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """One step; the temperature depends on the step alone, so that a resume finds it."""
        if self.anneal and isinstance(model, SelectableNetwork):
            for layer in model.selectable:
                layer.temperature = COLDEST ** (loop.step / max(loop.total_steps, 1))
        return super().step(loop, model, batch)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """The scores, and `switched`: gates whose first family is another than an epoch ago."""
        if self.settles_on is not None and isinstance(model, SelectableNetwork):
            device = next(model.parameters()).device
            model.settle({name: rows.to(device) for name, rows in self.settles_on.items()})
        scores = dict(super().validate(model))
        if isinstance(model, SelectableNetwork) and model.selectable:
            now = [top(layer.gates.detach(), 1).cpu() for layer in model.selectable]
            if self.last:
                changed = [(a & ~b).sum() for a, b in zip(now, self.last, strict=True)]
                scores["switched"] = float(sum(changed))
            self.last = now
        return scores

    def state(self) -> dict[str, Tensor]:
        """The families that led an epoch ago."""
        return {str(place): mask for place, mask in enumerate(self.last)}

    def load_state(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.last = [state[str(place)].bool().cpu() for place in range(len(state))]
