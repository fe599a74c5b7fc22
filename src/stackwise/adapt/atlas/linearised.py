"""A network's first-order expansion around its weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from stackwise.errors import ModelError


class Linearised(nn.Module):
    """g(x; theta_0 + v) = f(x; theta_0) + J(x) v, the derivative of f along v.

    It is linear in v: task vectors do not meet within it, and their coefficients are those of a
    linear model. Forward costs about two passes; no Jacobian is formed (torch.func.jvp).

    Args:
        network: f, which returns a tensor; in evaluation mode.
        change: v, a tensor for each parameter that moves; read anew in each pass.
    """

    def __init__(self, network: nn.Module, change: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network = network
        self.__dict__["change"] = change

    change: Mapping[str, Tensor]

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """What f takes -> what f returns."""
        weights = dict(self.network.named_parameters())
        along = {name: weights[name].detach() for name in self.change}

        def answer(moved: dict[str, Tensor]) -> Tensor:
            output = torch.func.functional_call(self.network, moved, inputs, named)
            if not isinstance(output, Tensor):
                raise ModelError(
                    f"linearised needs a network that returns a tensor, and this "
                    f"{type(self.network).__name__} returns a {type(output).__name__}"
                )
            return output

        with sdpa_kernel(SDPBackend.MATH):  # the others have no derivative forward
            found: Any = torch.func.jvp(answer, (along,), (dict(self.change),))
        value, derivative = found[:2]
        return value + derivative
