"""Weights of which some are masked: W * M in place of W, with M of zeros and ones.

    places = prunable(model)        which weights there are, by name
    masks = attach(places)          all ones, until `masks[name].set(mask)`
    detach(places)                  W <- W * M; the model is plain again

The product is a parametrization of torch, so that gradients are masked by themselves,
dL/dW = M * dL/d(W * M), and any module works. `stackwise.training.masked` trains such a model.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from stackwise.errors import ModelError


def kept_count(numel: int, sparsity: float) -> int:
    """How many of `numel` weights stay: round(numel (1 - s)), at least one."""
    return max(1, round(numel * (1 - sparsity)))


def largest(scores: Tensor, count: int) -> Tensor:
    """A mask with exactly `count` ones at the largest scores; of equal ones the first stay."""
    flat = scores.flatten()
    border = flat.kthvalue(flat.numel() - count + 1).values
    mask = flat > border
    ties = (flat == border).nonzero().flatten()
    mask[ties[: count - int(mask.sum())]] = True
    return mask.view(scores.shape)


@dataclass
class Place:
    """A weight and every (module, attribute) that holds it: tied weights have several."""

    parameter: nn.Parameter
    holders: list[tuple[nn.Module, str]]


def prunable(
    model: nn.Module,
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> dict[str, Place]:
    """The weights to prune, by name; a tied weight once, under its first name.

    By default every parameter of two dimensions or more whose own name begins with `weight` (or
    ends with `_weight`): linear, convolution, embedding and recurrent weights, but no biases,
    norms and scales.

    Args:
        include: regular expressions; only weights that one of them is found in.
        exclude: regular expressions; weights that one of them is found in stay dense.

    Raises:
        ModelError: no weight is left; those that could be pruned are listed.
    """
    found: dict[int, tuple[str, Place]] = {}
    for prefix, module in model.named_modules():
        for attribute, parameter in module.named_parameters(recurse=False):
            if parameter.ndim < 2 or not re.search(r"^weight|_weight$", attribute):
                continue
            name = f"{prefix}.{attribute}" if prefix else attribute
            place = found.setdefault(id(parameter), (name, Place(parameter, [])))[1]
            place.holders.append((module, attribute))
    every = dict(found.values())
    chosen = {
        name: place
        for name, place in every.items()
        if (include is None or any(re.search(pattern, name) for pattern in include))
        and not any(re.search(pattern, name) for pattern in exclude)
    }
    if not chosen:
        listed = ", ".join(list(every)[:12]) or "none"
        raise ModelError(
            f"no weight matched include={include}, exclude={list(exclude)}; prunable weights are: "
            f"{listed}"
        )
    return chosen


def sparsity(model: nn.Module) -> dict[str, tuple[int, int, float]]:
    """How sparse a model's weights are.

    Returns:
        name -> (weights, non-zeros, share of zeros), and `total` over the prunable weights.
    """
    counts = {
        name: (place.parameter.numel(), int(place.parameter.count_nonzero()))
        for name, place in prunable(model).items()
    }
    counts["total"] = (sum(n for n, _ in counts.values()), sum(z for _, z in counts.values()))
    return {name: (total, left, 1 - left / total) for name, (total, left) in counts.items()}


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
