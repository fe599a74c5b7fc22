"""What each domain still knows: the probe, and the forgetting matrix.

A domain's loss is looked at with the base alone, with the first stack, the first two and so on, in
the order in which they were learned; with each stack alone; and as the router weighs them, where
one is on. What a later stack does to an earlier domain is forgetting. Alone, a later domain does
not know what it was learned on top of.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from stackwise.adapt.brainstacks.delta import ExpertDelta
from stackwise.adapt.brainstacks.entry import CARD, joined_with
from stackwise.adapt.brainstacks.experts import gates
from stackwise.adapt.brainstacks.routing import RouterDelta
from stackwise.adapt.brainstacks.switch import LayerStacks, Switch
from stackwise.adapt.delta import deltas_on
from stackwise.catalog import Knob, probe
from stackwise.errors import DataError
from stackwise.findings import Findings
from stackwise.learning.trainable import Trainable
from stackwise.training.knobs import seeded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASE, ROUTED = "base", "routed"


@probe(
    "brainstacks",
    takes=("decoder", "encoder", "vision", "module", "learner"),
    cost="a pass over held-out data for each set of stacks",
    shared=(seeded,),
    **CARD,
)
def forgetting(
    model: Any,
    data: Any = None,
    *,
    batches: Annotated[int, Knob("batches that are looked at, at most", ge=1)] = 20,
    batch_size: Annotated[
        int | None, Knob("rows a batch where the model does not say; none is the data's", ge=1)
    ] = None,
    loss: Any = None,
    random_state: int,
) -> Findings:
    """Say what the stacks on a model do to data: to the loss of one domain, or of several.

    Args:
        model: a model with stacks put on, `MODEL+b/code+b/math`; without any its base is looked at.
        data: a loaded task, batches, tensors, or a dict of these by domain.
        loss: for a module whose batches give no `.loss`.

    Returns:
        Findings with the tables `loss` (a row for each set of stacks, a column for each domain of
        the data) and `use` (how often each expert is taken, by domain of the stacks), and figures.
    """
    if data is None:
        raise DataError("stacks are looked at on data: give --data")
    given = data if isinstance(data, dict) else {"data": data}
    sources = {
        name: joined_with(model, one, loss, batch_size, random_state) for name, one in given.items()
    }
    table = forgetting_matrix(model, sources, batches=batches)
    found = Findings({"loss": table}, {"loss": matrix_figure(table)})
    use = expert_use(model, sources, batches=batches)
    if len(use):
        found.tables["use"] = use
        found.summary["least used expert"] = round(float(use.min().min()), 4)
    best = table.mean(axis=1)
    found.summary |= {
        "sets of stacks": len(table), "smallest loss with": str(best.idxmin()),
        "its loss": round(float(best.min()), 5),
    }  # fmt: skip
    return found


@torch.no_grad()
def forgetting_matrix(
    model: Any, sources: Mapping[str, Trainable], *, batches: int = 20
) -> pd.DataFrame:
    """The loss of each source (columns) with each set of stacks (rows).

    Rows are `base`, `+a` for the first stack in the order of learning, `+a +b` for the first two
    and so on, `only b` for each later one alone, and `routed` where a router is on.
    """
    module = next(iter(sources.values())).model.eval()
    order = learned_order(module)
    sets: dict[str, dict[str, float] | None] = {BASE: {}}
    for place in range(len(order)):
        first = order[: place + 1]
        sets[" ".join(f"+{name}" for name in first)] = dict.fromkeys(first, 1.0)
    for name in order[1:]:
        sets[f"only {name}"] = {name: 1.0}
    routers = [delta for delta in deltas_on(module) if isinstance(delta, RouterDelta)]
    rows: dict[str, dict[str, float]] = {}
    for said in [*sets, *([ROUTED] if routers else [])]:
        rows[said] = {}
        for name, joined in sources.items():
            # the data's own copy of the model has the same stacks on
            here = joined.model.eval()
            mine = Switch.on(here)
            if said == ROUTED or mine is None:
                rows[said][name] = _mean_loss(joined, here, batches)
                continue
            with mine.only(sets[said]):
                rows[said][name] = _mean_loss(joined, here, batches)
    return pd.DataFrame(rows).T.rename_axis("stacks")


def learned_order(module: nn.Module) -> list[str]:
    """The domains on a module, each after those that it was learned over."""
    left = {
        name: domain.after
        for delta in deltas_on(module)
        if isinstance(delta, ExpertDelta)
        for name, domain in delta.domains.items()
    }
    return sorted(left, key=lambda name: (len(left[name]), name))


def _mean_loss(joined: Trainable, model: nn.Module, most: int) -> float:
    losses = []
    for place, batch in enumerate(joined.batches.epoch(0)):
        if place == most:
            break
        losses.append(float(joined.loss(model, batch)))
    return float(np.mean(losses))


@torch.no_grad()
def expert_use(model: Any, sources: Mapping[str, Trainable], *, batches: int = 20) -> pd.DataFrame:
    """How often each expert is taken, (domains, experts): the mean over layers, rounds, tokens. A
    row sums to `top_k`.
    """
    counts: dict[str, list[torch.Tensor]] = {}

    def watch(stacks: LayerStacks, x: torch.Tensor) -> None:
        for name, standing in stacks.standing.items():
            for experts in standing.rounds:
                logits = x.to(experts.router.dtype) @ experts.router.T
                taken = (gates(logits, standing.top_k) > 0).float()
                counts.setdefault(name, []).append(taken.flatten(0, -2).mean(0).cpu())

    for joined in sources.values():
        switch = Switch.on(joined.model)
        if switch is None:
            continue
        hooks = [
            joined.model.get_submodule(name).register_forward_pre_hook(
                lambda _, args, stacks=stacks: watch(stacks, args[0])
            )
            for name, stacks in switch.layers.items()
        ]
        try:
            _mean_loss(joined, joined.model.eval(), batches)
        finally:
            for hook in hooks:
                hook.remove()
    rows = {}
    for name, taken in counts.items():
        most = max(len(one) for one in taken)
        same = [one for one in taken if len(one) == most]
        rows[name] = {f"expert {e}": float(torch.stack(same).mean(0)[e]) for e in range(most)}
    return pd.DataFrame(rows).T


def matrix_figure(table: pd.DataFrame) -> "Figure":
    """The matrix as a picture: darker is a smaller loss, in each column by itself."""
    from matplotlib.figure import Figure

    height = 1.2 + 0.42 * len(table)
    figure = Figure(figsize=(2.6 + 1.1 * table.shape[1], height), layout="constrained")
    axes = figure.add_subplot()
    values = table.to_numpy(dtype=float)
    low, high = values.min(0), values.max(0)
    shades = (values - low) / np.where(high > low, high - low, 1)
    axes.imshow(1 - shades, cmap="Blues", vmin=-0.1, vmax=1.4, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize=9)
    axes.set_xticks(range(table.shape[1]), [str(name) for name in table.columns])
    axes.set_yticks(range(len(table)), [str(name) for name in table.index])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("loss of each domain's data, by the stacks that are on")
    return figure
