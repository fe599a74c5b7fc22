"""The probe: every sub-model of one network by cost and score, as a table and a picture."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import torch
from torch import nn

from stackwise.catalog import Knob, probe
from stackwise.errors import DataError, ModelError
from stackwise.findings import Findings
from stackwise.learning.measuring import made_up_inputs
from stackwise.learning.metrics import Metric
from stackwise.learning.trainable import trainable
from stackwise.protocols import Task
from stackwise.stack import Stack
from stackwise.train.sortednet.costs import (
    WITHIN,
    labels,
    pareto,
    smallest_within,
    table_of_submodels,
)
from stackwise.train.sortednet.entry import judge_of
from stackwise.train.sortednet.learner import CARD
from stackwise.train.sortednet.marks import marked_space, marked_spread, sorted_space
from stackwise.training.session import current_session

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GREY = "#2563eb", "#8a8f98"
WIDE = 30
"""Times the least cost beyond which the axis is logarithmic."""
COST = {
    "multiply_adds": "multiply-adds of one sample", "parameters": "parameters",
    "milliseconds": "milliseconds of one sample",
}  # fmt: skip


@probe("sortednet", takes=("learner", "decoder"), **{k: v for k, v in CARD.items() if k != "cost"})
def sorted_submodels(
    model: Any,
    data: Any = None,
    *,
    latency: Annotated[bool, Knob("measure the milliseconds of a pass, too")] = True,
) -> Findings:
    """Measure every sub-model of a sorted network: parameters, multiply-adds, milliseconds, score.

    Args:
        model: a fitted learner of this method, or a decoder, whose depths are measured where it
            was not trained sorted.
        data: a loaded task, on whose validation part each sub-model is judged; for a module also
            batches, on which it is judged by its loss.

    Returns:
        a table, a picture of the score by each cost with those that no other one beats, and in the
        summary the whole network beside the smallest that comes within 4 % of its score.
    """
    if data is None:
        raise DataError("the sub-models are judged on data: give a task, or batches")
    network = Stack.of(model).model
    space = getattr(model, "space_", None) or marked_space(network)
    if space is None and not isinstance(model, nn.Module):
        raise ModelError(f"a {type(model).__name__} was not trained sorted")
    space = sorted_space(network) if space is None else space
    metric: Any = data.metric if isinstance(data, Task) else Metric("loss", "min")
    judge = judge_of(model, data, None)[0] if isinstance(data, Task) else _loss_on(model, data)
    own = getattr(model, "example_inputs", None)
    example = made_up_inputs(network) if own is None else own()
    began = time.monotonic()

    def told(place: int) -> None:
        event = current_session().on_event
        if event is not None:
            seconds = time.monotonic() - began
            event({
                "phase": "measuring", "epoch": place, "max_epochs": len(space), "step": place,
                "steps": len(space), "metrics": {}, "seconds": seconds,
                "seconds_left": seconds / place * (len(space) - place),
            })  # fmt: skip

    table = table_of_submodels(
        network, space, example, judge=judge, statistics=getattr(model, "statistics_", None),
        spread=getattr(model, "spread", marked_spread(network)), told=told, latency=latency,
    )  # fmt: skip
    table.index = pd.Index(labels(table), name="sub-model")
    sign = 1 if metric.mode == "max" else -1
    costs = [name for name in COST if name in table]
    table["best"] = pareto(table[costs[0]].to_numpy(float), sign * table["score"].to_numpy())
    figures = {"score-by-cost": picture_of(table, costs, metric.name, sign)}
    return Findings({"submodels": table}, figures, _summary(table, metric))


def _loss_on(model: Any, data: Any) -> Callable[[nn.Module, dict[str, int]], float]:
    """The mean loss of a module over batches."""
    joined = trainable(model, data)

    @torch.no_grad()
    def judge(small: nn.Module, sizes: dict[str, int]) -> float:
        losses = [float(joined.loss(small.eval(), batch)) for batch in joined.batches.epoch(0)]
        return sum(losses) / len(losses)

    return judge


def _summary(table: pd.DataFrame, metric: Any) -> dict[str, Any]:
    whole = table.iloc[-1]
    chosen = smallest_within(table, WITHIN, metric.mode)
    (small,) = (row for _, row in table.iterrows() if all(row[a] == n for a, n in chosen.items()))
    return {
        "sub-models": len(table), "metric": metric.name,
        "the whole": f"{whole['score']:.4g} at {int(whole['parameters']):,} parameters",
        "smallest within 4 %": f"{small.name}: {small['score']:.4g} at "
        f"{int(small['parameters']):,} parameters",
    }  # fmt: skip


def picture_of(table: pd.DataFrame, costs: list[str], score: str, sign: int) -> "Figure":
    """The score of every sub-model by each cost, and the line of those that no other one beats.

    Args:
        sign: 1 where more is better, -1 where less is.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, NullFormatter

    figure = Figure(figsize=(4.2 * len(costs), 3.6), layout="constrained")
    every = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for axes, cost in zip(every, costs, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        best = table[pareto(table[cost].to_numpy(float), sign * table["score"].to_numpy())]
        best = best.sort_values(cost)
        axes.scatter(table[cost], table["score"], s=22, color=GREY, alpha=0.7, label="a sub-model")
        axes.plot(
            best[cost], best["score"], "o-", color=BLUE, lw=1.4, ms=4.5,
            label="none is cheaper and as good",
        )  # fmt: skip
        if table[cost].max() > WIDE * table[cost].min():
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        if cost != "milliseconds":
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel(COST[cost])
    every[0].set_ylabel(score)
    every[0].legend(frameon=False, fontsize="small", loc="lower right" if sign > 0 else "best")
    return figure
