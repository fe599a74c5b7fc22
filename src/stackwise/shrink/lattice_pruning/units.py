"""The units of a model's recurrent layers, and how much each acts on each.

    S[i, j] = max over gates |W_hh[gate, i, j]|        from unit j at t - 1 to unit i at t

A layer of torch stacks its gates in W_hh, (gates * n, n): one of nn.RNN, three (r, z, n) of nn.GRU,
four (i, f, g, o) of nn.LSTM. With scope=stack all layers are one matrix of blocks: W_hh on the
diagonal, and below it W_ih of the next layer, whose columns are the units of the layer before.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from stackwise.catalog import Knob
from stackwise.errors import KnobError, ModelError
from stackwise.layers.masked_weights import prunable


def gates_of(module: nn.Module) -> str:
    """The gates of a layer, a letter each, in the order in which W_hh stacks them; "" has none."""
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        return "ifgo"
    return "rzn" if isinstance(module, (nn.GRU, nn.GRUCell)) else ""


@dataclass(frozen=True)
class Block:
    """A weight, and which units it leads from and to.

    Attributes:
        name: of the parameter. gates: row blocks. to, source: first units, counted in the matrix.
        size: (units to, units from).
    """

    name: str
    gates: int
    to: int
    source: int
    size: tuple[int, int]

    def of(self, matrix: Tensor) -> Tensor:
        """This block's part of an (n, n) matrix."""
        rows, columns = self.size
        return matrix[self.to : self.to + rows, self.source : self.source + columns]


@dataclass(frozen=True)
class Units:
    """Units that are looked at together.

    Attributes:
        name: of the matrix, or of a layer with several. path, module: of the layer in the model;
            of a lone matrix its name and None.
        blocks: the weights among them. count: n.
        parts: (layer, direction, first unit) of each W_hh; of a layer, in torch's order.
        influence: (n, n) float32. present: (n, n) bool.
    """

    name: str
    path: str
    module: nn.Module | None
    blocks: list[Block]
    count: int
    parts: list[tuple[int, int, int]]
    influence: Tensor
    present: Tensor

    def masks(self, mask: Tensor) -> dict[str, Tensor]:
        """(n, n) bool -> a mask of each weight, the same for all gates."""
        return {block.name: block.of(mask).repeat(block.gates, 1) for block in self.blocks}


def influence(weight: Tensor, gates: str = "max", names: str = "") -> Tensor:
    """S, (n, m), from a weight (g * n, m): the largest over g gates, their mean, or one gate's.

    Args:
        names: a letter a gate.

    Raises:
        KnobError: it has no such gate.
    """
    count = max(len(names), 1)
    strength = weight.detach().abs().unflatten(0, (count, -1))
    if gates == "max":
        return strength.amax(0)
    if gates == "mean":
        return strength.mean(0)
    if gates not in names:
        has = f"has the gates {', '.join(names)}" if names else "has no gates"
        raise KnobError(f"gates={gates}: the layer {has}; take one of them, max or mean")
    return strength[names.index(gates)]


def units_of(
    model: nn.Module,
    /,
    *,
    gates: Annotated[
        Literal["max", "mean", "i", "f", "g", "o", "r", "z", "n"],
        Knob("influence over gates: largest, mean, or one's, LSTM's i, f, g, o or GRU's r, z, n"),
    ] = "max",
    scope: Annotated[
        Literal["layer", "stack"],
        Knob("each layer and direction by itself, or all with what leads from one to the next"),
    ] = "layer",
    include: Annotated[
        list[str] | None,
        Knob("square weights to take in place of recurrent layers: parts of their names"),
    ] = None,
) -> list[Units]:  # fmt: skip
    """The units of every recurrent layer of a model: nn.RNN, nn.LSTM, nn.GRU and their cells.

    Raises:
        ModelError: there is none, or one whose W_hh is not square (an LSTM with projections).
        KnobError: a gate that a layer has not, or a weight that is not square.
    """
    if include is not None:
        if scope == "stack":
            raise KnobError("scope=stack is of recurrent layers; leave it out with include")
        return _matrices(model, gates, include)
    found = []
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase):
            found += _layers(name, module, gates, scope)
        elif isinstance(module, nn.RNNCellBase):
            found.append(_joined(name, module, [("weight_hh", 0, 0)], [(0, 0, 0)], gates))
    if not found:
        raise ModelError(
            "no recurrent layer found (nn.RNN, nn.LSTM, nn.GRU or a cell); name square weights "
            "with include"
        )
    if scope == "stack" and all(len(units.parts) == 1 for units in found):
        raise KnobError("scope=stack needs a layer with several layers or directions; leave it out")
    return found


def _matrices(model: nn.Module, gates: str, include: Sequence[str]) -> list[Units]:
    places = prunable(model, include=[re.escape(part) for part in include])
    found = []
    for name, place in places.items():
        shape = tuple(place.parameter.shape)
        if len(shape) != 2 or shape[0] != shape[1]:
            raise KnobError(f"{name} is of shape {shape}, and a matrix of units on units is square")
        size = shape[0]
        block = Block(name, 1, 0, 0, (size, size))
        strength = influence(place.parameter, gates)
        everywhere = torch.ones(size, size, dtype=torch.bool)
        found.append(Units(name, name, None, [block], size, [(0, 0, 0)], strength, everywhere))
    return found


def _layers(name: str, module: nn.RNNBase, gates: str, scope: str) -> list[Units]:
    if module.proj_size:
        raise ModelError(
            f"{name or 'the LSTM'} has projections (proj_size={module.proj_size}), so that its "
            "hidden-to-hidden matrix is not square; use proj_size=0"
        )
    size, ways = module.hidden_size, 1 + module.bidirectional
    if scope == "layer":
        places = [(layer, way) for layer in range(module.num_layers) for way in range(ways)]
        return [
            _joined(name, module, [(f"weight_hh{suffix(*place)}", 0, 0)], [(*place, 0)], gates)
            for place in places
        ]
    parts = [
        (layer, way, (layer * ways + way) * size)
        for layer in range(module.num_layers)
        for way in range(ways)
    ]
    weights = []
    for layer, way, first in parts:
        weights.append((f"weight_hh{suffix(layer, way)}", first, first))
        if layer:
            before = (layer - 1) * ways * size
            weights.append((f"weight_ih{suffix(layer, way)}", first, before))
    return [_joined(name, module, weights, parts, gates)]


def suffix(layer: int, way: int) -> str:
    """How torch ends the names of a layer's parameters."""
    return f"_l{layer}" + "_reverse" * way


def _joined(
    name: str,
    module: nn.RNNBase | nn.RNNCellBase,
    weights: list[tuple[str, int, int]],
    parts: list[tuple[int, int, int]],
    gates: str,
) -> Units:
    """One matrix of the weights (attribute, first unit to, first unit from)."""
    letters = gates_of(module)
    count = len(parts) * module.hidden_size
    strength, present = torch.zeros(count, count), torch.zeros(count, count, dtype=torch.bool)
    blocks = []
    for attribute, to, source in weights:
        found = influence(getattr(module, attribute), gates, letters).float().cpu()
        full = f"{name}.{attribute}" if name else attribute
        block = Block(full, max(len(letters), 1), to, source, (found.shape[0], found.shape[1]))
        block.of(strength).copy_(found)
        block.of(present).fill_(True)
        blocks.append(block)
    title = blocks[0].name if len(parts) == 1 else name or type(module).__name__
    return Units(title, name, module, blocks, count, parts, strength, present)
