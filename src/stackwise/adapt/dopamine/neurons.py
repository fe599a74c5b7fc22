"""Which neurons a mode uses: firing rates and contributions, unit by unit, and a picture of them.

    rate            share of the positions at which a unit fires, r = mean 1[z > tau]
    base            the same of the network without a mode, with a threshold of 0
    gate            mean of the gate m, soft or hard
    contribution    mean |h| of what goes on from the unit

A unit is strongly active where its mean gate is above 0.5, and two modes overlap by the Jaccard
share of the units that fire more often than not; the paper gives neither threshold, these are ours.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stackwise.adapt.delta import deltas_on
from stackwise.adapt.delta.hashes import module_of
from stackwise.adapt.dopamine.gate import Numbers
from stackwise.adapt.dopamine.hooks import Onlooker, Passing, attach, detach
from stackwise.adapt.dopamine.mode import TauGate
from stackwise.adapt.dopamine.passes import passes_of
from stackwise.adapt.dopamine.sites import Site
from stackwise.adapt.dopamine.wiring import find_sites
from stackwise.catalog import Knob, probe
from stackwise.errors import DataError, ModelError
from stackwise.findings import Findings
from stackwise.training.session import current_session

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASE = "base"
MEASURED = ("rate", "gate", "contribution")
HALF = 0.5
SHOWN_LAYERS, TOP = 6, 5


@probe(
    "dopamine",
    title="Which neurons each mode of a network uses",
    paper="2602.11726",
    having="activations",
    cost="a pass over some batches for each mode; no training",
)
def attribute(
    model: Any,
    data: Any = None,
    *,
    batches: Annotated[int, Knob("batches of the data that are looked at", ge=1)] = 16,
    modes: Sequence[TauGate] | None = None,
    loss: Callable[..., Tensor] | None = None,
) -> Findings:
    """Measure how often each neuron fires and how much it contributes, in each mode by itself.

    Args:
        model: a module or a fitted learner; of a reference `MODEL+RUN+RUN` the modes that are on
            are looked at, each alone, beside the base.
        data: as for `dopamine`.
        modes: those that are looked at; by default those that are on.

    Returns:
        Findings with the tables `units` (a row a unit), `layers` (a row a layer: the share of units
        that are strongly active, and the mean rate) and `overlap` (mode by mode), the figure
        `modes`, and a summary.

    Raises:
        DataError: there are no data. ModelError: there is no activation, or a mode does not fit.
    """
    if data is None:
        raise DataError("rates are measured on data: give some")
    joined, network, runs = passes_of(model, data, batches, loss)
    standing = [one for one in deltas_on(network) if isinstance(one, TauGate)]
    chosen = list(standing if modes is None else modes)
    names = [mode.name for mode in chosen]
    if len({BASE, *names}) <= len(names):
        raise ModelError(f"modes are told apart by their names, which are {', '.join(names)} here")
    for mode in standing:
        mode.take_off(network)
    try:
        for mode in chosen:
            mode.fits(network)
        sites = {site.name: site for mode in chosen for site in mode.sites.values()}
        if not sites:
            sites = {site.name: site for site in find_sites(network, runs[0])}
        seen = {BASE: _rates(network, list(sites.values()), None, runs, (0, len(chosen) + 1))}
        for place, mode in enumerate(chosen, start=1):
            there = list(mode.sites.values())
            seen[mode.name] = _rates(network, there, mode, runs, (place, len(chosen) + 1))
    finally:
        for mode in standing:
            if network is module_of(model):
                mode.put(network, check=False)
    return _findings(seen)


def _rates(
    network: nn.Module,
    sites: list[Site],
    mode: TauGate | None,
    runs: list[Callable[[], Tensor]],
    part: tuple[int, int],
) -> dict[str, dict[str, np.ndarray]]:
    """(n,) rate, gate and contribution of each site, over all positions of the passes."""
    sums = {
        site.name: {what: torch.zeros(site.width, dtype=torch.float64) for what in MEASURED}
        for site in sites
    }
    positions = {site.name: torch.zeros(site.width, dtype=torch.float64) for site in sites}

    def watch(passing: Passing) -> None:
        name, z, share, units = passing.site, passing.z, passing.share, passing.units
        thresholds = mode is not None and mode.numbers[name].tau is not None
        # a sigmoid is above a half where its argument is above 0, so this is 1[z > tau]
        fires = share > HALF if thresholds else z > 0
        for what, value in zip(MEASURED, (fires, share, passing.h.abs()), strict=True):
            sums[name][what][units] += passing.rows(value).double().sum(0).cpu()
        positions[name][units] += len(passing.rows(z))

    owner = Onlooker() if mode is None else mode
    attach(network, owner, sites, _nothing if mode is None else mode.at, watch=watch)
    session = current_session()
    try:
        with torch.no_grad():
            for place, run in enumerate(runs):
                run()
                if session.on_event is not None:
                    done = part[0] * len(runs) + place + 1
                    session.on_event({
                        "phase": BASE if mode is None else mode.name, "step": done,
                        "steps": part[1] * len(runs), "epoch": part[0] + 1, "max_epochs": part[1],
                        "metrics": {},
                    })  # fmt: skip
    finally:
        detach(network, owner)
    return {
        name: {what: (total / positions[name]).numpy() for what, total in found.items()}
        for name, found in sums.items()
        if bool((positions[name] > 0).all())
    }


def _nothing(name: str, like: Tensor) -> Numbers | None:
    return None


def _findings(seen: dict[str, dict[str, dict[str, np.ndarray]]]) -> Findings:
    base = seen[BASE]
    rows = [f"{name}[{unit}]" for name, one in base.items() for unit in range(len(one["rate"]))]
    units: dict[str, np.ndarray] = {}
    layers: dict[str, list[float]] = {}
    for mode, found in seen.items():
        for what in MEASURED:
            if mode == BASE and what == "gate":
                continue
            parts = [found.get(name, one)[what] for name, one in base.items()]
            units[f"{what} {mode}"] = np.concatenate(parts)
        layers[f"rate {mode}"] = [
            float(found.get(n, one)["rate"].mean()) for n, one in base.items()
        ]
        if mode != BASE:
            units[f"change {mode}"] = units[f"rate {mode}"] - units[f"rate {BASE}"]
            layers[f"strongly active {mode}"] = [
                float((found.get(n, one)["gate"] > HALF).mean()) for n, one in base.items()
            ]
    table = pd.DataFrame(units, index=rows)
    fires = {mode: table[f"rate {mode}"].to_numpy() > HALF for mode in seen}
    overlap = pd.DataFrame(
        [[_jaccard(one, other) for other in fires.values()] for one in fires.values()],
        index=list(fires), columns=list(fires),
    )  # fmt: skip
    summary: dict[str, Any] = {"units": len(table)}
    for mode in seen:
        if mode != BASE:
            summary[f"strongly active in {mode}"] = float((table[f"gate {mode}"] > HALF).mean())
            moved = (table[f"contribution {mode}"] - table[f"contribution {BASE}"]).abs()
            summary[f"most changed in {mode}"] = ", ".join(moved.nlargest(TOP).index)
    tables = {"units": table, "layers": pd.DataFrame(layers, index=list(base)), "overlap": overlap}
    return Findings(tables, {"modes": modes_by_neuron(seen)}, summary)


def _jaccard(one: np.ndarray, other: np.ndarray) -> float:
    either = int((one | other).sum())
    return float((one & other).sum() / either) if either else 1.0


def modes_by_neuron(seen: dict[str, dict[str, dict[str, np.ndarray]]]) -> "Figure":
    """Firing rates as colours: a row a mode, a column a neuron, in the order of the base's rates; a
    panel a layer.
    """
    from matplotlib.figure import Figure

    names = list(seen[BASE])
    if len(names) > SHOWN_LAYERS:
        places = np.linspace(0, len(names) - 1, SHOWN_LAYERS).round().astype(int)
        names = [names[place] for place in places]
    height = 0.7 + len(names) * (0.45 + 0.22 * len(seen))
    figure = Figure(figsize=(6.4, height), layout="constrained")
    panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        order = np.argsort(-seen[BASE][name]["rate"], kind="stable")
        rates = np.stack(
            [found.get(name, seen[BASE][name])["rate"][order] for found in seen.values()]
        )
        image = axes.imshow(
            rates, aspect="auto", cmap="magma", vmin=0, vmax=1, interpolation="nearest"
        )
        axes.set_title(name, fontsize="small", loc="left")
        axes.set_yticks(range(len(seen)), list(seen))
        axes.tick_params(labelsize="small")
    panels[-1].set_xlabel("neurons, those that fire most often in the base first")
    figure.colorbar(image, ax=list(panels), label="firing rate", shrink=0.8)
    return figure
