"""Does the lattice of an LSTM's dependencies say better than magnitude which connections may go?

An LSTM that reads MNIST digits row by row is trained, pruned at three thresholds, and tuned for a
few epochs with its masks fixed. Masks of magnitude (tied over the gates, as the lattice's are, and
gate by gate) and random masks keep exactly as many entries of the hidden-to-hidden matrix, and get
the same tuning; so does the dense network. Units are taken out by lattice score, by norm and at
random, beside a small dense LSTM that is trained from scratch for as long. Nothing is selected;
each network is scored once on the test part.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from stackwise import data
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import BLUE, COLOURS, GREY, ORANGE, canvas, numbers_of
from stackwise.layers.masked_weights import largest
from stackwise.shrink.lattice_pruning.dependency.lattice import Lattice, lattice_of
from stackwise.shrink.lattice_pruning.dependency.pictures import draw_hasse
from stackwise.shrink.lattice_pruning.edges import edge_mask
from stackwise.shrink.lattice_pruning.entry import Tuning, tune_masked
from stackwise.shrink.lattice_pruning.removing import best_first, with_fewer_units
from stackwise.shrink.lattice_pruning.units import units_of
from stackwise.sparse_files import save_sparse
from stackwise.tasks.images.baselines.row_lstm import RowLSTMClassifier
from stackwise.tasks.images.task import ImagesTask
from stackwise.training.rules import Backprop

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"every": 20, "epochs": 1, "tuning": 1, "seeds": (0,), "width": 40, "drawn": 12},
    "cpu": {"every": 1, "epochs": 25, "tuning": 2, "seeds": (0, 1, 2), "width": 64, "drawn": 24},
    "gpu": {"every": 1, "epochs": 60, "tuning": 10, "seeds": (0, 1, 2), "width": 512,
            "drawn": 24},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "Hundreds of rows and one seed: this only shows that the measurement runs.",
    "cpu": "5,000 digits in place of 70,000 and 64 units, so that accuracy is compared with the "
    "dense network's and not with the paper's 98 %.",
    "gpu": "5,000 digits in place of 70,000.",
}
RULES: dict[str, dict[str, Any]] = {
    "either 0.5": {"quantile": 0.5},
    "either 0.8": {"quantile": 0.8},
    "either 0.95": {"quantile": 0.95},
    "poset, either 0.5": {"quantile": 0.5, "notion": "poset"},
    "poset, both 0.5": {"quantile": 0.5, "notion": "poset", "keep": "both"},
    "continuous, score": {"adjacency": "continuous", "quantile": 0.0, "keep": "score",
                          "sparsity": 0.97},
}  # fmt: skip
"""What is kept of the connections, by name."""
QUANTILES = ("either 0.5", "either 0.8", "either 0.95")
BINARY = tuple(name for name in RULES if not name.startswith("continuous"))
PEERS = ("magnitude", "magnitude by gate", "random")
TIMED = 15
"""Training steps of which the median time is taken."""


def _masks(weight: Tensor, lattice: Lattice, mask: Tensor, seed: int) -> dict[str, Tensor]:
    """(4 n, n) masks that keep as many entries a gate: the lattice's, and its peers'."""
    count = int(mask.sum())
    gates = weight.detach().abs().chunk(4)
    drawn = torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed))
    return {
        "lattice": mask.repeat(4, 1),
        "magnitude": largest(lattice.influence, count).repeat(4, 1),
        "magnitude by gate": torch.cat([largest(gate, count) for gate in gates]),
        "random": largest(drawn, count).repeat(4, 1),
    }


class Study:
    """One seed: a trained LSTM, and what becomes of its copies."""

    def __init__(self, settings: dict[str, Any], seed: int) -> None:
        self.settings, self.seed = settings, seed
        images, labels = data.images("mnist-5k")
        some = slice(None, None, settings["every"])
        self.task = ImagesTask.load((images[some], labels[some]), split_seed=seed)
        self.dense = self.fit(settings["width"], settings["epochs"])

    def fit(self, width: int, epochs: int) -> Any:
        """A trained LSTM of this width."""
        learner = RowLSTMClassifier(
            width=width, max_epochs=epochs, min_steps=1, patience=None, random_state=self.seed
        )
        return self.task.fit(learner)

    def accuracy(self, network: nn.Module, learner: Any = None) -> float:
        """Per cent of the test digits."""
        X, y = self.task.part("test")
        made = (learner or self.dense).with_network(network)
        return round(100 * float(np.mean(made.predict(X) == y)), 2)

    def copy(self) -> nn.Module:
        """The dense network."""
        return copy.deepcopy(self.dense.network_)

    def tuning(self, epochs: int) -> Tuning:
        """So many epochs, the same for all."""
        joined = self.dense.trainable(self.task)
        return Tuning(joined, epochs, "cpu", None, self.seed, {"lr": 1e-3})

    def masked(self, mask: Tensor, epochs: int) -> float:
        """The accuracy with a mask, tuned."""
        network = self.copy()
        tune_masked(network, {"lstm.weight_hh_l0": mask}, self.tuning(epochs).tune)
        return self.accuracy(network)

    def cut(self, units: list[int], epochs: int) -> tuple[float, nn.Module]:
        """The accuracy with some of the units, tuned, and the network."""
        network = with_fewer_units(self.copy(), {"lstm": [[sorted(units)]]})
        network = self.tuning(epochs).tune(network, Backprop)
        return self.accuracy(network), network

    def lattice(self, network: nn.Module | None = None, **knobs: Any) -> Lattice:
        """Of the LSTM's units."""
        (units,) = units_of(self.dense.network_ if network is None else network)
        return lattice_of(units.influence, units.present, **knobs)


class Found:
    """Numbers by name, one a seed."""

    def __init__(self) -> None:
        self.numbers: dict[str, list[float]] = {}

    def note(self, name: str, value: float) -> None:
        """Add the next seed's."""
        self.numbers.setdefault(name, []).append(round(value, 4))

    def least(self, ours: list[str], others: list[str]) -> list[float]:
        """The smallest difference over pairs of names, by seed."""
        each = [
            np.subtract(self.numbers[own], self.numbers[other])
            for own, other in zip(ours, others, strict=True)
        ]
        return [round(float(value), 4) for value in np.min(each, axis=0)]

    def those(self, *words: str) -> dict[str, Any]:
        """The numbers whose names hold one of these."""
        return {n: v for n, v in self.numbers.items() if any(word in n for word in words)}


def measure(scale: Scale) -> list[Claim]:
    """The claims of lattice pruning."""
    settings = SETTINGS[scale]
    found = Found()
    diagram: dict[str, Any] = {}
    for seed in settings["seeds"]:
        study = Study(settings, seed)
        found.note("dense raw", study.accuracy(study.dense.network_))
        found.note("dense tuned", study.accuracy(
            study.tuning(settings["tuning"]).tune(study.copy(), Backprop)
        ))  # fmt: skip
        _connections(study, found)
        _units(study, found)
        _orders(study, found)
        if not diagram:
            diagram = _diagram(study)
    return _claims(found, diagram, list(settings["seeds"]), LEFT_OUT[scale])


def _connections(study: Study, found: Found) -> None:
    """Masks of every rule and of its peers, raw and tuned."""
    weight = study.dense.network_.lstm.weight_hh_l0
    for rule, knobs in RULES.items():
        how = {name: knobs[name] for name in ("keep", "sparsity") if name in knobs}
        lattice = study.lattice(**{n: v for n, v in knobs.items() if n not in how})
        mask = edge_mask(lattice, **how)
        found.note(f"{rule}, sparsity in %", 100 * (1 - float(mask.double().mean())))
        for name, one in _masks(weight, lattice, mask, study.seed).items():
            found.note(f"{rule}, {name} raw", study.masked(one, 0))
            found.note(f"{rule}, {name} tuned", study.masked(one, study.settings["tuning"]))


def _units(study: Study, found: Found) -> None:
    """A half and a quarter of the units, chosen in three ways, and small dense networks."""
    width, epochs = study.settings["width"], study.settings["tuning"]
    lattice = study.lattice()
    norm = (
        study.dense.network_.lstm.weight_hh_l0.detach().view(4, width, width).square().sum((0, 1))
    )
    drawn = torch.randperm(width, generator=torch.Generator().manual_seed(study.seed))
    ranked = {
        "lattice": best_first(lattice).tolist(),
        "norm": norm.argsort(descending=True).tolist(),
        "random": drawn.tolist(),
    }
    for part, count in (("half", width // 2), ("quarter", width // 4)):
        for name, order in ranked.items():
            found.note(f"{part} of the units, {name} raw", study.cut(order[:count], 0)[0])
            accuracy, network = study.cut(order[:count], epochs)
            found.note(f"{part} of the units, {name} tuned", accuracy)
        small = study.fit(count, study.settings["epochs"] + epochs)
        found.note(f"{part} of the units, from scratch", study.accuracy(small.network_, small))
        found.note(f"{part} of the units, bytes in %", _percent(_bytes, network, study))
        found.note(f"{part} of the units, a step in %", _percent(_step, network, study))


def _percent(cost: Callable[[nn.Module, Study], float], network: nn.Module, study: Study) -> float:
    return 100 * cost(network, study) / cost(study.copy(), study)


def _bytes(network: nn.Module, study: Study) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return float(save_sparse(network.state_dict(), Path(folder) / "model.safetensors"))


def _step(network: nn.Module, study: Study) -> float:
    """Seconds of a training step on 128 digits."""
    joined = study.dense.trainable(study.task)
    batch = next(iter(joined.batches.epoch(0)))
    seconds = []
    for _ in range(TIMED):
        began = time.perf_counter()
        joined.loss(network, batch).backward()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _orders(study: Study, found: Found) -> None:
    """How many units are irreducible, by the way in which the graph becomes an order."""
    for order in ("flow", "reach", "direct"):
        lattice = study.lattice(order=order, quantile=0.5)
        found.note(f"irreducible, order={order}", int(lattice.irreducible.sum()))
        found.note(f"elements, order={order}", len(lattice.twins.unique()))
    poset = study.lattice(quantile=0.5, notion="poset")
    found.note("irreducible, notion=poset", int(poset.irreducible.sum()))


def _diagram(study: Study) -> dict[str, Any]:
    """The Hasse diagram of a small LSTM, for the picture."""
    small = study.fit(study.settings["drawn"], study.settings["epochs"])
    lattice = study.lattice(small.network_, quantile=0.7)
    return {
        "drawn units": len(lattice),
        "drawn covers": lattice.covers.nonzero().flatten().tolist(),
        "drawn critical": lattice.critical.nonzero().flatten().tolist(),
        "drawn twins": lattice.twins.tolist(),
    }


def _claims(
    found: Found, diagram: dict[str, Any], seeds: list[int], left_out: str
) -> list[Claim]:  # fmt: skip
    made = []

    def claim(
        id: str,
        statement: str,
        differences: list[float],
        margin: float,
        numbers: dict[str, Any],
        why: str = "",
    ) -> None:
        verdict = judge(differences, margin=margin)
        told = {"unit": "accuracy in %", "margin": margin} | numbers | {"differences": differences}
        words = left_out if verdict == "holds" else f"{left_out} {why}".strip()
        made.append(Claim(id, statement, verdict, told, seeds, words))

    def pairs(rules: tuple[str, ...], other: str, state: str) -> list[float]:
        ours = [f"{rule}, lattice {state}" for rule in rules]
        return found.least(ours, [f"{rule}, {other} {state}" for rule in rules])

    masks = found.those("dense", *QUANTILES, *BINARY)
    falling = [f"{rule}, lattice raw" for rule in QUANTILES]
    claim(
        "falls-with-sparsity",
        "Accuracy falls from each threshold to the next, before tuning.",
        found.least(falling[:-1], falling[1:]), 0.0, found.those("dense", *QUANTILES),
    )  # fmt: skip
    for state, words in (("raw", "before tuning"), ("tuned", "after tuning")):
        claim(
            f"beats-random-{state}",
            f"At equal counts, masks of the lattice beat random ones under every rule, {words}.",
            pairs(BINARY, "random", state), 0.0, masks,
            "Where nearly all is gone, and before tuning, every mask is near chance.",
        )  # fmt: skip
        claim(
            f"beats-magnitude-{state}",
            "At equal counts, masks of the lattice beat masks of magnitude, tied over the gates as "
            f"theirs are, under every rule, {words}.",
            pairs(BINARY, "magnitude", state), 0.0, masks, MAGNITUDE_WHY,
        )  # fmt: skip
    claim(
        "half-costs-little",
        "With the connections above the median that touch an irreducible unit, the tuned LSTM is "
        "within 0.5 points of the dense one, tuned as long.",
        found.least(["either 0.5, lattice tuned"], ["dense tuned"]), -0.5,
        found.those("dense", "either 0.5"), "On a test part of 1,000 digits a point is ten digits.",
    )  # fmt: skip
    claim(
        "near-total-sparsity",
        "In the continuous form 97 % of the connections go, and the tuned LSTM loses at most 5 "
        "points.",
        found.least(["continuous, score, lattice tuned"], ["dense tuned"]), -5.0,
        found.those("dense", "continuous"),
        "Two epochs of tuning on 3,000 digits do not make up for what the recurrence lost.",
    )  # fmt: skip
    cut = found.those("dense", "of the units")
    claim(
        "units-by-lattice",
        "Half or a quarter of the units, chosen by lattice score, do better after tuning than as "
        "many chosen by norm or at random.",
        found.least(
            [f"{part} of the units, lattice tuned" for part in ("half", "quarter") for _ in "ab"],
            [f"{part} of the units, {other} tuned" for part in ("half", "quarter")
             for other in ("norm", "random")],
        ), 0.0, cut,
        "How many units stay matters more than which: no choice is ahead in every seed.",
    )  # fmt: skip
    claim(
        "units-beat-small",
        "Half of the units of a trained LSTM, tuned, do better than an LSTM of half the width that "
        "is trained from scratch for as many epochs in all.",
        found.least(["half of the units, lattice tuned"], ["half of the units, from scratch"]), 0.0,
        cut, SMALL_WHY,
    )  # fmt: skip
    claim(
        "units-save",
        "With half of the units, the file has at most 75 % of the bytes, and a training step takes "
        "at most 75 % of the time.",
        [75 - max(both) for both in zip(
            found.numbers["half of the units, bytes in %"],
            found.numbers["half of the units, a step in %"], strict=True,
        )], 0.0, {"unit": "% of the dense network"} | found.those("bytes", "a step"),
        "A step has a fixed cost for each of the 28 rows, which fewer units do not lower.",
    )  # fmt: skip
    units = found.numbers["elements, order=direct"]
    claim(
        "flow-tells-units-apart",
        "At the median threshold the order of the flow has irreducible units and others; by "
        "reachability all units are one element, and what units read is irreducible in every one.",
        [
            min(flow, whole - flow, 1.5 - reach, direct - whole + 0.5)
            for flow, whole, reach, direct in zip(
                found.numbers["irreducible, order=flow"], units,
                found.numbers["elements, order=reach"],
                found.numbers["irreducible, order=direct"], strict=True,
            )
        ], 0.0, {"unit": "units"} | found.those("irreducible,", "elements,") | diagram,
    )  # fmt: skip
    return made


MAGNITUDE_WHY = (
    "The lattice looks at which entries are above a threshold and not at how far; an entry that is "
    "large but joins two replaceable units goes, a smaller one at an irreducible unit stays. No "
    "number of the paper's comparison could be read."
)

SMALL_WHY = (
    "Two epochs of tuning do not mend what taking half of the units out broke; the small LSTM "
    "spent all its epochs on the units that it has."
)


def picture(record: dict[str, Any]) -> "Figure":
    """The Hasse diagram of a small trained LSTM: a line leads up from a unit to those that depend
    on it next. Filled units are irreducible and keep their connections; the others may go.
    """
    numbers = numbers_of(record, "flow-tells-units-apart")
    count = numbers["drawn units"]
    covers = torch.zeros(count, count, dtype=torch.bool)
    upper, lower = torch.tensor(numbers["drawn covers"]).view(-1, 2).T
    covers[upper, lower] = True
    critical = torch.zeros(count, dtype=torch.bool)
    critical[numbers["drawn critical"]] = True
    figure, axes = canvas(height=5.6)
    draw_hasse(axes, covers, critical, torch.tensor(numbers["drawn twins"]))
    return figure


def by_sparsity(record: dict[str, Any]) -> "Figure":
    """Accuracy by the share of connections that are zero, raw and tuned."""
    numbers = numbers_of(record, "beats-random-raw")
    figure, axes = canvas(height=4.2)
    shares = [float(np.mean(numbers[f"{rule}, sparsity in %"])) for rule in QUANTILES]
    colours = {
        "lattice": BLUE,
        "magnitude": ORANGE,
        "magnitude by gate": COLOURS[2],
        "random": GREY,
    }
    for name, colour in colours.items():
        for state, style in (("tuned", "o-"), ("raw", "o:")):
            found = np.array([numbers[f"{rule}, {name} {state}"] for rule in QUANTILES])
            axes.plot(shares, found.mean(1), style, color=colour, lw=1.5, ms=4,
                      label=f"{name}, {state}")  # fmt: skip
            axes.fill_between(shares, found.min(1), found.max(1), color=colour, alpha=0.12, lw=0)
    axes.axhline(float(np.mean(numbers["dense tuned"])), color="black", lw=1, ls="--",
                 label="dense, tuned")  # fmt: skip
    axes.set_xlabel("connections that are zero, in %")
    axes.set_ylabel("test accuracy, in %")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=7.5)
    return figure


FIGURES = {"sparsity": by_sparsity}
