"""Activations that are function calls: seen while a network runs, by torch's function modes.

    "relu()"      all calls of relu in a pass, as functional.relu, torch.relu or x.relu()

Their units are numbered in the order in which a pass comes to them, over all calls, so that a
network which computes several layers in one call where that is faster has the same units either
way. A function mode is entered when the network's forward begins and left when it ends, whatever
happens (hooks.py); it sees calls within that forward alone, and each thread has its own.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

FUNCTIONS: dict[Any, str] = {
    functional.relu: "relu", torch.relu: "relu", Tensor.relu: "relu",
    functional.leaky_relu: "leaky_relu", functional.elu: "elu", functional.selu: "selu",
    functional.celu: "celu", functional.gelu: "gelu", functional.silu: "silu",
    functional.mish: "mish", functional.hardswish: "hardswish", functional.relu6: "relu6",
    functional.tanh: "tanh", torch.tanh: "tanh", Tensor.tanh: "tanh",
}  # fmt: skip
"""The functions that are activations, and what names call them."""
PRODUCTS: dict[Any, int] = {
    functional.conv1d: 1, functional.conv2d: 1, functional.conv3d: 1, functional.batch_norm: 1,
    functional.linear: -1, torch.matmul: -1, Tensor.matmul: -1, Tensor.__matmul__: -1,
    torch.addmm: -1, torch.einsum: -1,
}  # fmt: skip
"""The axis on which the units lie that these functions give."""
See = Callable[[str, Callable[[Tensor], Tensor], Tensor, int], Tensor]
"""(name, the activation, z, the axis of its units) -> what the call gives."""


class Calls(TorchFunctionMode):
    """Has activations answered by `see`, while it is entered."""

    def __init__(self, see: See) -> None:
        super().__init__()
        self.see, self.axis = see, -1

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = FUNCTIONS.get(func)
        if name is None or not args or not _is_units(args[0]):
            self.axis = PRODUCTS.get(func, self.axis)
            return func(*args, **kwargs)
        # what writes over its input would write over z
        kept = {key: value for key, value in kwargs.items() if key != "inplace"}
        axis = self.axis if args[0].dim() > 2 else -1
        return self.see(name, lambda z: func(z, *args[1:], **kept), args[0], axis)


def _is_units(z: Any) -> bool:
    return isinstance(z, Tensor) and z.is_floating_point() and z.dim() > 1


def units_called(run: Callable[[], object]) -> dict[str, int]:
    """The units of all calls of each activation in a pass."""
    found: dict[str, int] = {}

    def see(name: str, activation: Callable[[Tensor], Tensor], z: Tensor, axis: int) -> Tensor:
        found[name] = found.get(name, 0) + z.shape[axis]
        return activation(z)

    with Calls(see):
        run()
    return found
