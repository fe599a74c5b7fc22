"""Take units out of the recurrent layers of a model: those that others stand for."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.errors import KnobError, ModelError
from stackwise.layers.arguments import put_part
from stackwise.shrink.lattice_pruning.dependency.lattice import Lattice
from stackwise.shrink.lattice_pruning.fewer_units import FewerUnits
from stackwise.shrink.lattice_pruning.units import Units


def staying(lattice: Lattice, sparsity: float | None = None) -> Tensor:
    """(n,) bool: the units that stay.

    Without a sparsity those go that are not critical and have a twin or a larger set; with one, as
    many as it says, those of lowest score first, and of equal ones those that give and take least.

    Raises:
        KnobError: no unit would stay.
    """
    if sparsity is None:
        none = not bool(lattice.irreducible.any())
        return torch.ones_like(lattice.critical) if none else lattice.critical | ~lattice.replaced
    count = len(lattice) - round(sparsity * len(lattice))
    if count < 1:
        raise KnobError(f"sparsity {sparsity:g} leaves none of {len(lattice)} units")
    stay = torch.zeros(len(lattice), dtype=torch.bool)
    stay[best_first(lattice)[:count].tolist()] = True
    return stay


def best_first(lattice: Lattice) -> np.ndarray:
    """The units by score, then by how much they give and take."""
    much = (lattice.influence.sum(0) + lattice.influence.sum(1)).numpy()
    return np.lexsort((-much, -lattice.score.numpy()))


Ranked = dict[tuple[int, int], tuple[list[int], int]]
"""By layer and direction: all its units, the best first, and how many of them stay."""


def kept_units(
    found: Sequence[tuple[Units, Lattice, Tensor]],
) -> dict[str, list[list[list[int]]]]:
    """By the name of each recurrent layer, kept[layer][direction]: the units that stay.

    Args:
        found: with each lattice the units that stay, (n,) bool. A direction that keeps fewer units
            than the other of its layer keeps its next best ones too, and each keeps one at least.

    Raises:
        ModelError: a weight or a cell, which the model's own code runs, cannot be made smaller.
    """
    ranked: dict[str, Ranked] = {}
    for units, lattice, stay in found:
        module = units.module
        if not isinstance(module, nn.RNNBase):
            raise ModelError(
                f"{units.name} is run step by step by the model's own code, which a smaller one "
                "would not fit; units are taken out of nn.RNN, nn.LSTM and nn.GRU"
            )
        order = best_first(lattice)
        order = np.concatenate([order[stay[order].numpy()], order[~stay[order].numpy()]])
        for layer, way, first in units.parts:
            own = [int(unit) - first for unit in order if 0 <= unit - first < module.hidden_size]
            count = int(stay[first : first + module.hidden_size].sum())
            ranked.setdefault(units.path, {})[layer, way] = own, max(count, 1)
    return {name: _evened(of_layer) for name, of_layer in ranked.items()}


def _evened(ranked: Ranked) -> list[list[list[int]]]:
    """As many units in each direction of a layer."""
    kept: list[list[list[int]]] = []
    for layer in sorted({layer for layer, _ in ranked}):
        ways = [ranked[place] for place in sorted(ranked) if place[0] == layer]
        count = max(count for _, count in ways)
        kept.append([sorted(units[:count]) for units, _ in ways])
    return kept


def with_fewer_units(model: nn.Module, kept: Mapping[str, list[list[list[int]]]]) -> nn.Module:
    """A model whose layers keep these units; a layer that keeps all stays as it is.

    Args:
        model: changed in place, but where it is itself such a layer.
        kept: of `kept_units`.
    """
    for name, units in kept.items():
        module = model.get_submodule(name) if name else model
        assert isinstance(module, nn.RNNBase)
        if all(len(one) == module.hidden_size for ways in units for one in ways):
            continue
        small = FewerUnits.of(module, units)
        if not name:
            return small
        put_part(model, name, small)
    return model
