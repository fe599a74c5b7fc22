"""The networks that are compared: a stack of residual layers, one after the other or side by side.

    sequential   x_h = x_{h-1} + F_h(x_{h-1})            F_h(x) = activation(W_h * x + b_h)
    parallel     x_H = x_0 + sum_h F_h(x_0)              the same parameters, one step

Side by side the H convolutions are one convolution of H times the filters, since all read x_0; the
activation comes before the sum.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.sweeps import put_sweeps

Mode = Literal["sequential", "parallel"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
}
Activation = Literal["relu", "tanh", "gelu"]
MOST_NUMBERS, MOST_LEARNING = 1 << 18, 1 << 21
"""Numbers in the output of a convolution for all layers up to which it is the faster form (with
gradients: the second), see benchmarks/shallow-again.py."""


class ResidualLayer(nn.Module):
    """x + activation(conv(x)), a convolution that keeps the shape."""

    def __init__(self, filters: int, kernel_size: int, activation: Activation = "relu") -> None:
        super().__init__()
        self.conv = nn.Conv2d(filters, filters, kernel_size, padding="same")
        self.activation = activation

    def residual(self, x: Tensor) -> Tensor:
        """(B, filters, H, W) of what it adds."""
        return ACTIVATIONS[self.activation](self.conv(x))

    def forward(self, x: Tensor) -> Tensor:
        """(B, filters, H, W) -> the same shape."""
        return x + self.residual(x)

    @staticmethod
    def together(layers: Sequence["ResidualLayer"], x: Tensor) -> Tensor:
        """The sum of what several layers add to x: by one convolution while its output is small,
        for memory that is written and read again costs more than steps do.
        """
        first = layers[0].conv
        most = MOST_LEARNING if torch.is_grad_enabled() else MOST_NUMBERS
        if not torch.compiler.is_compiling() and x.numel() * len(layers) > most:
            added = layers[0].residual(x)
            for layer in layers[1:]:
                added = added + layer.residual(x)
            return added
        weight = torch.cat([layer.conv.weight for layer in layers])
        bias = torch.cat([layer.conv.bias for layer in layers])  # type: ignore[misc]
        found = functional.conv2d(x, weight, bias, padding=first.padding)
        found = ACTIVATIONS[layers[0].activation](found)
        return found.unflatten(1, (len(layers), first.out_channels)).sum(1)


def fuse_parallel(layers: Sequence[nn.Module]) -> nn.Module:
    """One `Conv2d(f, H * f)` or `Linear` that computes what H of them compute on one input.

    The activation and the sum over the H groups of outputs come behind it.

    Raises:
        ModelError: they are not all convolutions of one kernel, stride and padding, or all linear
            of one size; the sentence names the first that differs.
    """
    first: Any = layers[0]
    for place, one in enumerate(layers):
        _check_like(first, one, place)
    if isinstance(first, nn.Linear):
        fused: Any = nn.Linear(first.in_features, sum(one.out_features for one in layers))  # type: ignore[misc]
    elif isinstance(first, nn.Conv2d):
        fused = nn.Conv2d(
            first.in_channels, sum(one.out_channels for one in layers), first.kernel_size,  # type: ignore[misc,arg-type]
            first.stride, first.padding, first.dilation,  # type: ignore[arg-type]
        )  # fmt: skip
    else:
        raise ModelError(f"a {type(first).__name__} cannot be fused; convolutions and linear can")
    with torch.no_grad():
        weights: list[Any] = [one.weight for one in layers]
        fused.weight.copy_(torch.cat(weights))
        biases: list[Any] = [
            one.weight.new_zeros(len(one.weight)) if one.bias is None else one.bias  # type: ignore[arg-type, operator, misc]
            for one in layers
        ]
        fused.bias.copy_(torch.cat(biases))
    return fused.to(first.weight)  # type: ignore[no-any-return]


def _check_like(first: Any, one: Any, place: int) -> None:
    if type(one) is not type(first) or getattr(one, "groups", 1) != 1:
        raise ModelError(f"block {place} is a {type(one).__name__} of another kind")
    for name in ("in_features", "in_channels", "kernel_size", "stride", "padding", "dilation"):
        if getattr(one, name, None) != getattr(first, name, None):
            raise ModelError(
                f"fuse needs layers of one kernel, stride and padding: block {place} has "
                f"{name} {getattr(one, name)}, block 0 {getattr(first, name)}"
            )


@keeps_arguments
class ShallowNet(nn.Module):
    """A convolution that lifts the channels, residual layers, pooling, and a linear head.

    Args:
        channels, image_size: of the pictures, (H, W). n_outputs: classes.
        depth: residual layers. filters: channels in all of them. kernel_size: odd.
        mode: one after the other, or side by side; parameters and their names are the same.
        order, group: sweeps, and layers in a group, where they are side by side; without a group
            all layers are one.
        narrow: whether the last layers begin smaller by sqrt(depth), so that the sum does not.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        channels: int,
        image_size: Sequence[int],
        n_outputs: int,
        depth: int = 8,
        filters: int = 16,
        kernel_size: int = 3,
        activation: Activation = "relu",
        mode: Mode = "parallel",
        order: int = 1,
        group: int | None = None,
        narrow: bool = False,
    ) -> None:
        super().__init__()
        self.lift = nn.Conv2d(channels, filters, kernel_size, padding="same")
        self.blocks = nn.ModuleList(
            [ResidualLayer(filters, kernel_size, activation) for _ in range(depth)]
        )
        if narrow:
            with torch.no_grad():
                for block in self.blocks:
                    block.conv.weight.div_(depth**0.5)  # type: ignore[union-attr, operator]
                    block.conv.bias.div_(depth**0.5)  # type: ignore[union-attr, operator]
        height, width = (max(side // 2, 1) for side in image_size)
        self.pool = nn.AdaptiveMaxPool2d((height, width))
        self.head = nn.Linear(filters * height * width, n_outputs)
        if mode == "parallel":
            put_sweeps(self, "blocks", consecutive(depth, group or depth), order)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, n_outputs)."""
        x = self.lift(pixels)
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.head(self.pool(x).flatten(1))
        return output


def consecutive(count: int, group: int) -> list[list[int]]:
    """0 .. count - 1 in groups of so many; the last one may be smaller."""
    return [list(range(at, min(at + group, count))) for at in range(0, count, group)]
