"""The transform: a model with recurrent layers in, one with fewer connections or units out."""

import copy
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.catalog import transform
from stackwise.errors import ModelError
from stackwise.knobs import knobs_of
from stackwise.layers.masked_weights import attach, detach, prunable
from stackwise.learning.trainable import Trainable, of_the_same_kind, trainable
from stackwise.shrink.lattice_pruning.dependency.lattice import Lattice, lattice_of
from stackwise.shrink.lattice_pruning.edges import check_keep, edge_mask
from stackwise.shrink.lattice_pruning.removing import kept_units, staying, with_fewer_units
from stackwise.shrink.lattice_pruning.reporting import edge_report, sentence, unit_report
from stackwise.shrink.lattice_pruning.units import Units, units_of
from stackwise.training import train
from stackwise.training.knobs import placed, seeded, tuned
from stackwise.training.masked import MaskedBackprop
from stackwise.training.rules import Backprop

CARD: dict[str, Any] = {
    "title": "Recurrent layers pruned by the order in which units depend on each other",
    "paper": "2502.16525",
}
KNOBS = (units_of, lattice_of, edge_mask)


@transform(
    "lattice-pruning",
    tasks=("images",),
    takes=("learner", "module"),
    having="recurrent layers",
    budget="epochs",
    cost="seconds for the lattice of 1,000 units, and the epochs of tuning that you give it",
    presets={"quick": {"epochs": 2}, "standard": {}, "best": {"epochs": 30}},
    shared=(*KNOBS, tuned, placed, seeded),
    **CARD,
)
def lattice_pruning(
    model: Any,
    data: Any = None,
    *,
    loss: Callable[..., Tensor] | None = None,
    epochs: int,
    batch_size: int | None,
    device: str,
    time_limit: float | None,
    random_state: int,
    **knobs: Any,
) -> Any:
    """Prune recurrent layers by the lattice of their units' dependencies, then tune what is left.

    Units that no combination of others stands for are irreducible. Connections that touch them
    stay, the others become zero and stay zero while the model is tuned; or units that are not
    irreducible are taken out, and a smaller dense layer is left, which takes less room and time.

    Args:
        model: a fitted learner or any module with nn.RNN, nn.LSTM, nn.GRU or their cells, of any
            number of layers and directions. It is not changed.
        data: what `stackwise.learning.trainable` takes; without it, or with epochs=0, nothing is
            tuned.
        loss: for a module whose batches give no `.loss`.
        knobs: those of `units_of`, `lattice_of` and `edge_mask`, and `lr` and `weight_decay`.

    Returns:
        a new object of the same kind. Masked weights are zero in a state of the same names and
        shapes, which loads without this library; with keep=units a layer is a `FewerUnits`. Its
        network's `pruned` says what was done, a record a layer; a learner's notes say it in words.

    Raises:
        ModelError: there is no recurrent layer, or weights are no numbers.
        KnobError: knobs that do not go together, or ask for what cannot be.
    """
    joined = None
    if data is not None:
        joined = trainable(model, data, loss=loss, batch_size=batch_size, seed=random_state)
    network = copy.deepcopy(joined.model if joined else getattr(model, "network_", model))
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"a {type(model).__name__} has no network to prune; give an nn.Module or a fitted "
            "neural learner"
        )
    settings, training = parted(knobs, KNOBS)
    found = lattices_of(network, settings)
    tuning = Tuning(joined, epochs, device, time_limit, random_state, training)
    rule = settings["edge_mask"]
    if rule["keep"] == "units":
        network, records = _smaller(network, found, rule["sparsity"], tuning)
    else:
        records = _masked(network, found, rule, tuning)
    object.__setattr__(network, "pruned", records)
    made = of_the_same_kind(model, joined, network.eval())
    if hasattr(made, "notes_"):
        made.notes_ = [*made.notes_, *map(sentence, records)]
    return made


def parted(
    knobs: Mapping[str, Any], functions: Sequence[Callable[..., Any]]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The knobs of each function by its name, and the others."""
    settings = {
        one.__name__: {name: knobs[name] for name in knobs_of(one)} for one in functions
    }  # fmt: skip
    taken = {name for values in settings.values() for name in values}
    return settings, {name: value for name, value in knobs.items() if name not in taken}


def lattices_of(
    network: nn.Module, settings: Mapping[str, Mapping[str, Any]]
) -> list[tuple[Units, Lattice]]:
    """The lattice of each recurrent layer.

    Args:
        settings: by the name of the function whose knobs they are.
    """
    found = []
    for units in units_of(network, **settings["units_of"]):
        lattice = lattice_of(units.influence, units.present, **settings["lattice_of"])
        if lattice.void:
            warnings.warn(f"{units.name}: {lattice.void}", UserWarning, stacklevel=4)
        found.append((units, lattice))
    return found


class Tuning:
    """How a pruned model goes on learning; not at all without data.

    Args:
        joined: the model with its data, or None. training: what a rule is told besides the loss.
    """

    def __init__(
        self,
        joined: Trainable | None,
        epochs: int,
        device: str,
        time_limit: float | None,
        seed: int,
        training: dict[str, Any],
    ) -> None:
        self.joined, self.epochs, self.training = joined, epochs, training
        self.loop: dict[str, Any] = {"device": device, "time_limit": time_limit, "seed": seed}

    def tune(self, network: nn.Module, rule: type[Backprop], **masked: Any) -> nn.Module:
        """Train with a rule, where there is what it takes."""
        joined = self.joined
        if joined is None or not self.epochs:
            return network
        made = rule(
            joined.loss, **masked, **self.training, validate=joined.validate,
            monitor=joined.monitor, mode=joined.mode,
        )  # fmt: skip
        return train(
            network, made, joined.batches, max_epochs=self.epochs, name="tune", **self.loop
        ).model


def _masked(
    network: nn.Module,
    found: list[tuple[Units, Lattice]],
    rule: dict[str, Any],
    tuning: Tuning,
) -> list[dict[str, Any]]:
    """Mask connections, tune, and make the zeros part of the weights; says what was done."""
    kept = [edge_mask(lattice, **rule) for _, lattice in found]
    masks: dict[str, Tensor] = {}
    for (units, _), mask in zip(found, kept, strict=True):
        masks |= units.masks(mask)
    tune_masked(network, masks, tuning.tune)
    pairs = zip(found, kept, strict=True)
    return [edge_report(units, lattice, mask) for (units, lattice), mask in pairs]


def tune_masked(
    network: nn.Module, masks: Mapping[str, Tensor], tune: Callable[..., nn.Module]
) -> None:
    """Zero what masks say, in place, and keep it zero while `tune(network, rule, ...)` trains."""
    places = prunable(network, include=[f"^{re.escape(name)}$" for name in masks])
    attached = attach(places)
    for name, mask in attached.items():
        mask.set(masks[name].to(mask.kept.device))
    with torch.no_grad():
        for name, place in places.items():
            place.parameter.mul_(attached[name].kept)
    tune(network, MaskedBackprop, masks=attached, places=places)
    detach(places)


def _smaller(
    network: nn.Module,
    found: list[tuple[Units, Lattice]],
    sparsity: float | None,
    tuning: Tuning,
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Take units out and tune what is left; says what was done."""
    for _, lattice in found:
        check_keep("units", sparsity, lattice)
    kept = kept_units([(*one, staying(one[1], sparsity)) for one in found])
    network = tuning.tune(with_fewer_units(network, kept), Backprop)
    return network, [unit_report(*one, kept[one[0].path]) for one in found]
