"""A sub-model as a plain network of its own: the slices copied, nothing of the whole kept.

    small = extract(network, width=64, depth=2)         # the same class, other arguments
    small(x) == network(x) with submodel(network, width=64, depth=2) open, bit for bit

A model of transformers comes out in its own class, with a config that says its sizes, and is saved
and loaded as ever. Statistics of batch normalisation are those of the sub-model.
"""

import copy
from typing import Any

import torch
from torch import nn

from stackwise.errors import ModelError
from stackwise.learning.measuring import made_up_inputs
from stackwise.train.sortednet.reading import Axes, Spread
from stackwise.train.sortednet.spaces import Sizes
from stackwise.train.sortednet.statistics import Statistics
from stackwise.training.distillation import logits_of

TOLERANCE = 1e-3
"""Largest error of a rebuilt model, over its largest answer: rounding is far below."""


def extract(
    network: nn.Module,
    sizes: Sizes | None = None,
    *,
    statistics: Statistics | None = None,
    spread: Spread = "first",
    **axes: float,
) -> nn.Module:
    """A new, plain network with the weights of a sub-model.

    Args:
        sizes: on every axis; or by `axes`, in units or shares.
        statistics: of batch normalisation, of which the sub-model has a set.

    Raises:
        KnobError: a size that the network cannot have.
        ModelError: a model of transformers whose config cannot say these sizes.
    """
    read = Axes.of(network, spread=spread)
    sizes = read.checked(axes) if sizes is None else dict(sizes)
    narrow = any(sizes[axis] < read.full[axis] for axis in sizes if axis != "depth")
    if sizes == read.full:
        new = copy.deepcopy(read.network)
    elif read.rebuilt is None or (hasattr(read.network, "config") and not narrow):
        new = read.stack.rebuild(read.order(sizes["depth"]))
    else:
        new = _rebuilt(read, sizes)
    if statistics is not None:
        statistics.put(new, sizes)
    return new.train(read.network.training)


def _rebuilt(read: Axes, sizes: Sizes) -> nn.Module:
    assert read.rebuilt is not None
    new = read.rebuilt(sizes)
    name = type(read.network).__name__
    try:
        new.load_state_dict(read.state(sizes))
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise ModelError(f"the config of {name} cannot say these sizes ({why})") from error
    new.requires_grad_(any(p.requires_grad for p in read.network.parameters()))
    if hasattr(read.network, "config"):
        _compare(read, sizes, new)
    return new


@torch.no_grad()
def _compare(read: Axes, sizes: Sizes, new: nn.Module) -> None:
    """Names of modules prove nothing: see that the new model answers as the slice does."""
    inputs = made_up_inputs(read.network)
    if inputs is None:
        return
    training = read.network.training
    read.network.eval()
    with read.cut_to(sizes) as network:
        wanted = _answer(network(**inputs))
    read.network.train(training)
    found = _answer(new.eval()(**inputs))
    if (found - wanted).abs().max() > TOLERANCE * wanted.abs().max().clamp_min(1e-6):
        raise ModelError(
            f"a {type(new).__name__} of these sizes does not compute what the slice does; its "
            "forward reads a size that is cut. Cut the depth alone"
        )


def _answer(output: Any) -> torch.Tensor:
    found = getattr(output, "last_hidden_state", None)
    return (logits_of(output) if found is None else found).float()
