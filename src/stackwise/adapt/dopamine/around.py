"""The layers around the units of an activation: which rows give them, which columns read them."""

from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def turned(layer: nn.Module) -> bool:
    """Whether it is transformers' Conv1D, a linear layer whose weight is (in, out)."""
    return type(layer).__name__ == "Conv1D"


def columns(layer: nn.Module, width: int) -> int | None:
    """How many inputs of a layer belong to each of `width` units; None where none do."""
    inputs = inputs_of(layer)
    if inputs is None:
        return None
    if isinstance(layer, CONVOLUTIONS):
        return 1 if inputs == width else None
    return inputs // width if inputs % width == 0 else None


def inputs_of(layer: nn.Module) -> int | None:
    """The numbers, or channels, that a layer multiplies by a matrix; None where it does not."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    if turned(layer):
        return _shape(layer)[0]
    if isinstance(layer, CONVOLUTIONS) and layer.groups == 1:
        return layer.in_channels
    return None


def outputs_of(layer: nn.Module) -> int | None:
    """The units that a layer gives: of a linear layer, a convolution or a batch norm."""
    if isinstance(layer, nn.Linear):
        return layer.out_features
    if turned(layer):
        return _shape(layer)[1]
    if isinstance(layer, CONVOLUTIONS):
        return layer.out_channels
    return layer.num_features if isinstance(layer, NORMS) else None


@torch.no_grad()
def column_change(layer: nn.Module, gain: Tensor) -> Tensor:
    """W (g - 1) along the columns that belong to the units, in float32 at least."""
    weight: Any = layer.weight
    numbers = torch.promote_types(weight.dtype, torch.float32)
    count = columns(layer, len(gain))
    assert count is not None
    change = (gain.to(weight.device, numbers) - 1).repeat_interleave(count)
    if turned(layer):
        change = change[:, None]
    elif isinstance(layer, CONVOLUTIONS):
        change = change.view(-1, *[1] * (weight.dim() - 2))
    made: Tensor = (weight.to(numbers) * change).cpu()
    return made


@torch.no_grad()
def keep_rows(layer: nn.Module, kept: Tensor) -> None:
    """Leave the units with these numbers alone, in place."""
    side = 1 if turned(layer) else 0
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = getattr(layer, name, None)
        if tensor is not None:
            _replace(layer, name, tensor.index_select(side if tensor.dim() > 1 else 0, kept))
    for name in ("out_features", "out_channels", "num_features", "nf"):
        if hasattr(layer, name):
            setattr(layer, name, len(kept))


@torch.no_grad()
def keep_columns(layer: nn.Module, kept: Tensor, width: int) -> None:
    """Leave the inputs that belong to these of `width` units alone, in place."""
    weight: Any = layer.weight
    count = columns(layer, width)
    assert count is not None
    inputs = (kept[:, None] * count + torch.arange(count, device=kept.device)).flatten()
    _replace(layer, "weight", weight.index_select(0 if turned(layer) else 1, inputs))
    for name in ("in_features", "in_channels", "nx"):
        if hasattr(layer, name):
            setattr(layer, name, len(inputs))


def _replace(layer: nn.Module, name: str, tensor: Tensor) -> None:
    before = getattr(layer, name)
    if isinstance(before, nn.Parameter):
        tensor = nn.Parameter(tensor.contiguous(), requires_grad=before.requires_grad)
    setattr(layer, name, tensor)


def _shape(layer: nn.Module) -> tuple[int, int]:
    weight: Any = layer.weight
    return int(weight.shape[0]), int(weight.shape[1])
