"""What a loss calls a model with, so that a model can be asked without the labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.adapt.atlas.blocks import has_matrix
from stackwise.errors import DataError, ModelError
from stackwise.training.distillation import logits_of

LABELS = ("labels", "decoder_labels", "label")
Loss = Callable[[nn.Module, Any], Tensor]


class _Seen(Exception):
    """The call is known: no error, only a way out of a forward pass."""


@dataclass(frozen=True)
class Call:
    """The inputs of a pass: in order, and by name; without labels."""

    inputs: tuple[Any, ...]
    named: dict[str, Any]

    def answer(self, network: nn.Module) -> Tensor:
        """(..., C) logits."""
        return logits_of(network(*self.inputs, **self.named))

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name; those in order by their number."""
        placed = {str(place): one for place, one in enumerate(self.inputs)}
        every = placed | self.named
        return {name: one for name, one in every.items() if isinstance(one, Tensor)}

    def having(self, tensors: Mapping[str, Tensor]) -> "Call":
        """The same call with other tensors."""
        inputs = tuple(tensors.get(str(place), one) for place, one in enumerate(self.inputs))
        named = {name: tensors.get(name, one) for name, one in self.named.items()}
        return replace(self, inputs=inputs, named=named)


def call_of(loss: Loss, network: nn.Module, batch: Any) -> Call:
    """What `loss` calls the network with on a batch; the network is not run.

    Raises:
        DataError: the loss does not call it.
    """
    seen: list[Call] = []

    def look(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        unlabelled = {name: one for name, one in named.items() if name not in LABELS}
        seen.append(Call(inputs, unlabelled))
        raise _Seen

    hook = network.register_forward_pre_hook(look, with_kwargs=True)
    try:
        loss(network, batch)
    except _Seen:
        pass
    finally:
        hook.remove()
    if not seen:
        raise DataError("the loss of this data does not call the model, so that it has no inputs")
    return seen[0]


def flat_logits(output: Tensor) -> Tensor:
    """(rows, C): of an ensemble each member, of texts each token.

    Raises:
        ModelError: there are no classes to be sure of.
    """
    if output.shape[-1] < 2:
        raise ModelError(
            "this objective learns without labels from how sure a model is of a class, and this "
            f"model gives {output.shape[-1]} number a sample"
        )
    return output.float().reshape(-1, output.shape[-1])


def features_of(network: nn.Module, call: Call) -> Tensor:
    """(B, D) what the last layer with a matrix reads; the mean over what lies between batch and
    width, such as tokens.

    Raises:
        ModelError: no layer reads such a tensor.
    """
    seen: list[Tensor] = []

    def look(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].is_floating_point():
            seen.append(inputs[0])

    holding = [m for m in network.modules() if has_matrix(m)]
    hooks = [module.register_forward_pre_hook(look) for module in holding]
    try:
        call.answer(network)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen or seen[-1].dim() < 2:
        raise ModelError(f"a {type(network).__name__} has no last layer whose input is a feature")
    last = seen[-1]
    return last if last.dim() == 2 else last.flatten(1, -2).mean(1)


def entropies(output: Tensor) -> Tensor:
    """(rows,) nats."""
    logs = flat_logits(output).log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)


def rows_of(calls: list[Call]) -> dict[str, Tensor]:
    """The samples of several calls, one after the other, by the names of their tensors.

    Raises:
        DataError: their rows have several shapes.
    """
    every = [call.tensors() for call in calls]
    shapes = {name: {one[name].shape[1:] for one in every} for name in every[0]}
    odd = next((name for name, found in shapes.items() if len(found) > 1), None)
    if odd is not None:
        raise DataError(
            f"ufm draws samples anew, and those of this data differ in shape ({odd}): give "
            "pictures of one size, a table, or objective entropy"
        )
    return {name: torch.cat([one[name] for one in every]) for name in every[0]}
