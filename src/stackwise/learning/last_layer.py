"""The last linear layer of a classifier: which one it is, and what it is given.

name, layer = last_linear(network)
with inputs_of(layer) as seen:
    called(network, batch)
seen[0]                             (B, d) what the layer read: the features of the rows
"""

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.learning.outputs import BESIDE

ANSWERS = (*BESIDE, "labels", "y")
"""What stands in a batch beside what a model is called with."""


def _asked_for(model: nn.Module) -> set[str]:
    """Of the answers, those without which a model cannot be called; one that hands on whatever it
    is given asks for what its parts ask for.
    """
    given = inspect.signature(model.forward).parameters
    found = {name for name, one in given.items() if one.default is one.empty}
    if any(one.kind is one.VAR_KEYWORD for one in given.values()):
        for part in model.children():
            found |= _asked_for(part)
    elif isinstance(model, nn.ModuleList):
        found = set().union(*(_asked_for(part) for part in model))
    return found & set(ANSWERS)


def called(model: nn.Module, batch: Mapping[str, Tensor]) -> Any:
    """The output of a model for a batch, whose other entries are its labels and weights. A model
    that cannot be called without labels is given them.
    """
    wanted = _asked_for(model)
    inputs = {n: tensor for n, tensor in batch.items() if n not in ANSWERS or n in wanted}
    return model(inputs["x"]) if set(inputs) == {"x"} else model(**inputs)


def labels_of(batch: Mapping[str, Tensor]) -> Tensor:
    """(B,) the class codes in a batch."""
    return next(batch[name] for name in ("target", "labels", "y") if name in batch)


def last_linear(
    network: nn.Module, layer: str | None = None, *, purpose: str = "to work on"
) -> tuple[str, nn.Linear]:
    """The dotted name of the last linear layer, or of the one that is named, and the layer.

    Args:
        purpose: what it is wanted for, for the error.

    Raises:
        ModelError: there is none, or none of that name.
    """
    found = {n: m for n, m in network.named_modules() if isinstance(m, nn.Linear)}
    what = type(network).__name__
    if layer is not None and layer not in found:
        raise ModelError(
            f"a {what} has no linear layer {layer!r}; it has {', '.join(found) or 'none'}"
        )
    if not found or (layer or next(reversed(found))) == "":
        raise ModelError(f"a {what} holds no linear layer {purpose}")
    name = layer or next(reversed(found))
    return name, found[name]


@contextlib.contextmanager
def inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What a layer is given while this is open, one entry a call, gradients and all."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()
