"""The probe: what each order of the expansion is away from the deep stack, before anything is cut.

error(m) = |X^(m) - x_H| / |x_H - x_0|        over all groups of a stack, norms over a batch
"""

import copy
import time
from typing import Annotated, Any

import pandas as pd
import torch
from torch import nn

from stackwise.catalog import Knob, probe
from stackwise.errors import ModelError
from stackwise.figures import drawing, new_figure
from stackwise.findings import Findings
from stackwise.layers.sweeps import put_sweeps, side_by_side, sweeps_of
from stackwise.learning.trainable import Trainable, trainable
from stackwise.shrink.shallow_again.entry import recount
from stackwise.shrink.shallow_again.grouping import check_residual, groups_of, in_container
from stackwise.shrink.shallow_again.learner import CARD
from stackwise.stack import Stack
from stackwise.stack.replay import record
from stackwise.training.knobs import seeded

TIMED = 5
"""Passes of which the median time is taken."""


@probe(
    "shallow-again",
    takes=("learner", "decoder", "encoder", "vision", "module"),
    shared=(seeded,),
    **{name: CARD[name] for name in ("title", "paper")},
)
def expansion(
    model: Any,
    data: Any = None,
    *,
    group: Annotated[
        int | None, Knob("blocks side by side; none: all in a row that keep the shape", ge=1)
    ] = None,
    batches: Annotated[int, Knob("batches that are measured", ge=1)] = 4,
    loss: Any = None,
    random_state: int,
) -> Findings:
    """Measure, order by order, how far groups of blocks side by side are from the sequence.

    Nothing is trained. Order 1 is fully side by side; at the size of the group the answers are the
    deep model's.

    Args:
        model: as for `shallow_again`; it is not changed.
        data: what `stackwise.learning.trainable` takes.
        loss: for a module whose batches give no `.loss`.

    Returns:
        Findings: table `orders` (loss, milliseconds of a pass, mean error of the groups), table
        `error by group`, a picture, and the least order whose loss is within a tenth of the deep
        model's.
    """
    joined = trainable(model, data, loss=loss, seed=random_state)
    deep = joined.model
    if sweeps_of(deep) is not None:
        raise ModelError("the blocks of this model run side by side already")
    some = [batch for _, batch in zip(range(batches), joined.batches.epoch(0), strict=False)]
    deep.eval()
    stack = Stack.of(deep)
    once = lambda: joined.loss(deep, some[0])  # noqa: E731
    check_residual(deep, stack, once)
    groups = groups_of(stack, group, once)
    whole = _Measured(deep, joined, some)
    orders = range(1, max(map(len, groups)) + 1)
    rows = []
    for order in orders:
        cut = copy.deepcopy(deep)
        put_sweeps(cut, stack.name, in_container(stack, groups), order)
        recount(cut, joined)
        found = _Measured(cut.eval(), joined, some)
        rows.append({"order": order, "loss": found.loss, "milliseconds": found.milliseconds})
    table = pd.DataFrame(rows).set_index("order")
    errors = _errors(stack, joined, some[0], groups)
    table["error"] = errors.mean(axis=1)
    near = table.index[table["loss"] <= 1.1 * whole.loss]
    summary = {
        "blocks side by side": [len(one) for one in groups if len(one) > 1],
        "loss of the deep model": whole.loss,
        "milliseconds of the deep model": whole.milliseconds,
        "least order within a tenth of that loss": int(near[0]) if len(near) else None,
    }
    return Findings(
        {"orders": table, "error by group": errors}, {"orders": _drawn(table, whole.loss)}, summary
    )


class _Measured:
    """Mean loss over batches, and the median milliseconds of the first one's pass."""

    @torch.no_grad()
    def __init__(self, model: nn.Module, joined: Trainable, some: list[Any]) -> None:
        losses = [float(joined.loss(model, batch)) for batch in some]
        self.loss = sum(losses) / len(losses)
        seconds = []
        for _ in range(TIMED):
            began = time.perf_counter()
            joined.loss(model, some[0])
            seconds.append(time.perf_counter() - began)
        self.milliseconds = 1e3 * sorted(seconds)[TIMED // 2]


@torch.no_grad()
def _errors(stack: Stack, joined: Trainable, batch: Any, groups: list[list[int]]) -> pd.DataFrame:
    """error(m) of each group on the deep model's own stream: a row an order, a column a group."""
    called: list[Any] = []
    hook = stack.model.register_forward_pre_hook(
        lambda _, args, named: called.append((args, named)), with_kwargs=True
    )
    try:
        joined.loss(stack.model, batch)
    finally:
        hook.remove()
    args, named = called[0]
    replay, _ = record(stack, *args, **named)
    columns = {}
    for one in (group for group in groups if len(group) > 1):
        x, behind = replay.hidden[one[0]], replay.hidden[one[-1] + 1]
        adds = lambda place, h, one=one: replay.block(one[place], h) - h  # noqa: E731
        moved = (behind - x).norm().clamp_min(1e-12)
        columns[f"blocks {one[0]} to {one[-1]}"] = {
            order: float((side_by_side(adds, x, len(one), order) - behind).norm() / moved)
            for order in range(1, len(one) + 1)
        }
    return pd.DataFrame(columns).rename_axis("order")


def _drawn(table: pd.DataFrame, deep_loss: float) -> Any:
    """Loss and error of the stream by order."""
    with drawing():
        figure, axes = new_figure(height=240)
        axes.plot(table.index, table["loss"], marker="o", label="loss, nothing trained")
        axes.axhline(deep_loss, linewidth=1, linestyle="--", label="the deep model's")
        axes.set_xlabel("order: sweeps in a group")
        axes.set_ylabel("loss")
        axes.legend(frameon=False)
    return figure
