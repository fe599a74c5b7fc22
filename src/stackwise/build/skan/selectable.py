"""What every network of layers with a choice shares, on tables and on pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from stackwise.build.skan.gates import Mode, SelectableEdges
from stackwise.errors import ModelError


class SelectableNetwork(nn.Module):
    """A network of layers that have a choice, until it is pruned.

    A subclass is decorated by `keeps_arguments`, and takes `choice` (families that each gate keeps,
    as nested lists of bools a layer; None keeps the whole pool) and `selection` (how that choice
    was made, a record that is kept with the network).
    """

    low: Tensor
    high: Tensor
    centre: Tensor
    reach: Tensor

    arguments: dict[str, Any]

    def keep_ranges(self, ranges: list[list[float]] | None, count: int) -> None:
        """Hold least and largest value of each of `count` inputs; None maps nothing."""
        self.mapped = ranges is not None
        low, high = torch.tensor(ranges or [[-1.0, 1.0]] * count).reshape(-1, 2).unbind(1)
        reach = torch.where(high > low, (high - low) / 2, 0.5)
        found = {"low": low, "high": high, "centre": (low + high) / 2, "reach": reach}
        for name, tensor in found.items():
            self.register_buffer(name, tensor, persistent=False)

    def scaled(self, values: Tensor) -> Tensor:
        """(..., n) in [-1, 1] for values within the ranges; a constant input is 0."""
        return (values - self.centre) / self.reach if self.mapped else values

    def places(self) -> Sequence[tuple[nn.Module, str]]:
        """Where each layer is: the module that holds it and its name there, in their order."""
        raise ModelError(f"{type(self).__name__} does not say where its layers are")

    def first(self, rows: Mapping[str, Tensor]) -> Tensor:
        """What the first layer sees of rows, which hold the network's inputs by name."""
        raise ModelError(f"{type(self).__name__} does not say what its first layer sees")

    def after(self, place: int, y: Tensor) -> Tensor:
        """What the layer after `place` sees of the output of that one: here as it is."""
        return y

    def settle(self, rows: Mapping[str, Tensor]) -> None:
        """Take statistics that layers hold anew, over rows: here there are none."""

    def all_layers(self) -> list[nn.Module]:
        """The layers in their order, pruned or not."""
        return [getattr(holder, name) for holder, name in self.places()]

    @property
    def selectable(self) -> list[SelectableEdges]:
        """The layers that still have a choice."""
        return [layer for layer in self.all_layers() if isinstance(layer, SelectableEdges)]

    def set_mode(self, mode: Mode, keep: int = 1) -> Self:
        """Let the gates of all layers act as `mode` says; returns the network."""
        for layer in self.selectable:
            layer.mode, layer.keep, layer.temperature = mode, keep, 1.0
        return self

    def made_with(self, choice: list[Any] | None) -> None:
        """Let each layer be pruned to the choice that the constructor was given."""
        for (holder, name), kept in zip(self.places() if choice else [], choice or [], strict=True):
            layer = getattr(holder, name)
            layer.kept = torch.tensor(kept, dtype=torch.bool)
            setattr(holder, name, layer.pruned())

    @torch.no_grad()
    def pruned(self) -> Self:
        """The same function as a network of the chosen families alone."""
        layers = self.selectable
        if len(layers) < len(self.places()):
            raise ModelError("the network is pruned already")
        choice = [layer.choice().tolist() for layer in layers]
        smaller = type(self)(**self.arguments | {"choice": choice})
        kept = {
            id(tensor) for layer in layers for tensor in layer.state_dict(keep_vars=True).values()
        }
        rest = {
            name: tensor
            for name, tensor in self.state_dict(keep_vars=True).items()
            if id(tensor) not in kept
        }
        smaller.load_state_dict(rest, strict=False)
        for (holder, name), layer in zip(smaller.places(), layers, strict=True):
            setattr(holder, name, layer.pruned())
        return smaller.to(next(self.parameters()).device).train(self.training)
