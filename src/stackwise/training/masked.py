"""Ordinary training of a model whose weights are masked (`stackwise.layers.masked_weights`).

Gradients are masked by themselves. What autograd does not do is done here: momentum and weight
decay would still move a masked weight.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stackwise.layers.masked_weights import Mask, Place
from stackwise.training.rules import Backprop, Loop


class MaskedBackprop(Backprop):
    """`Backprop` on masked weights, which stay where they are.

    Args:
        masks, places: of `attach` and `prunable`, by weight.
        regrow: True keeps the value of a masked weight, which comes back where its mask is one
            again; False sets it to zero.
    """

    def __init__(
        self,
        loss: Any,
        *,
        masks: Mapping[str, Mask],
        places: Mapping[str, Place],
        regrow: bool = False,
        **training: Any,
    ) -> None:
        super().__init__(loss, **training)
        self.masks, self.places, self.regrow = masks, places, regrow
        self.frozen: dict[str, Tensor] = {}

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

    def _frozen(self, name: str) -> Tensor:
        """The values at which masked weights rest; unmasked places of it are not looked at."""
        if name not in self.frozen:
            self.frozen[name] = self.places[name].parameter.detach().clone()
        return self.frozen[name]
