"""The layers beside which stacks stand: those that multiply by a matrix, within the blocks."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.stack import Stack
from stackwise.stack.rebuild import has_adapters


def sizes_of(layer: nn.Module) -> tuple[int, int] | None:
    """(d_in, d_out) of a linear layer, GPT-2's among them; None for another module."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if type(layer).__name__ == "Conv1D":  # of transformers, whose weight lies (in, out)
        weight: Any = layer.weight
        return int(weight.shape[0]), int(weight.shape[1])
    return None


def adapted_layers(model: nn.Module, targets: list[str] | None = None) -> dict[str, nn.Module]:
    """The layers that get a stack, by name.

    Args:
        targets: endings of names, such as `q_proj`; None takes every linear layer of the blocks
            that Stack finds (attention and MLP alike, no embedding and no head), and where it finds
            no blocks every linear layer but the last.

    Raises:
        ModelError: there is none, a target matches none, or adapters of peft are on the model.
    """
    if has_adapters(model):
        raise ModelError(
            "adapters of peft are on this model, and stacks would stand beside them: merge them "
            "first (model.merge_and_unload())"
        )
    linear = {name: layer for name, layer in model.named_modules() if sizes_of(layer) is not None}
    if not linear:
        raise ModelError(f"a {type(model).__name__} has no linear layer beside which to stand")
    if targets is not None:
        for target in targets:
            if not any(_ends(name, target) for name in linear):
                raise ModelError(
                    f"no linear layer's name ends in {target!r}; there is "
                    f"{', '.join(dict.fromkeys(name.rpartition('.')[2] for name in linear))}"
                )
        return {n: layer for n, layer in linear.items() if any(_ends(n, t) for t in targets)}
    try:
        blocks = Stack.of(model).names
    except ModelError:
        *kept, _ = linear or [""]
        return {name: linear[name] for name in kept} or linear
    inside = {
        name: layer
        for name, layer in linear.items()
        if any(name == block or name.startswith(f"{block}.") for block in blocks)
    }
    return inside or linear


@torch.no_grad()
def reached_layers(
    model: nn.Module, layers: Mapping[str, nn.Module], run: Callable[[nn.Module], Any]
) -> dict[str, nn.Module]:
    """Those of the layers that a pass calls, with inputs and outputs of their own sizes.

    A module may take the weights of a layer and never call it, as a fused scan does; nothing that
    stood beside it would be heard.

    Args:
        run: passes something through the model.

    Raises:
        ModelError: none is called.
    """
    found: set[str] = set()

    def watching(name: str, layer: nn.Module) -> Any:
        sizes = sizes_of(layer)

        def called(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            tensors = args and isinstance(args[0], Tensor) and isinstance(output, Tensor)
            if tensors and (args[0].shape[-1], output.shape[-1]) == sizes:
                found.add(name)

        return layer.register_forward_hook(called)

    hooks = [watching(name, layer) for name, layer in layers.items()]
    training = model.training
    model.eval()
    try:
        run(model)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    if not found:
        raise ModelError(
            f"a {type(model).__name__} calls none of its linear layers, beside which to stand"
        )
    return {name: layer for name, layer in layers.items() if name in found}


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
