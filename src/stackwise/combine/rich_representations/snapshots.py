"""CAT of snapshots: n members from one run at a high learning rate.

The run spends half of its epochs to settle; then n - 1 equal parts follow, and a snapshot is taken
where each part begins and where the last one ends. A snapshot is a copy: training on does not
change it. The learning rate is constant and `snapshot_step` times the learner's own; a part begins
with fresh moments of the optimizer, since a phase of the loop does.
"""

import copy
import dataclasses
import math
from typing import Any, cast

from torch import nn

from stackwise.combine.rich_representations.members import Rows, planned, with_knobs


class SnapshotRun(nn.Module):
    """A network that learns, and the snapshots taken of it.

    Args:
        network: as it begins. taken: snapshots that there are.
    """

    def __init__(self, network: nn.Module, taken: int = 0) -> None:
        super().__init__()
        self.network = network
        self.arguments: dict[str, Any] = {"taken": 0}
        for _ in range(taken):
            self.take()

    @property
    def snapshots(self) -> list[nn.Module]:
        """Those taken, in their order."""
        return [self.get_submodule(f"snapshot{i}") for i in range(self.arguments["taken"])]

    def take(self) -> "SnapshotRun":
        """Take a snapshot of this moment."""
        copied = copy.deepcopy(self.network).requires_grad_(False)
        self.add_module(f"snapshot{self.arguments['taken']}", copied)
        self.arguments = {"taken": self.arguments["taken"] + 1}
        return self

    def forward(self, *args: Any, **named: Any) -> Any:
        """What the network answers."""
        return self.network(*args, **named)


def train_snapshots(learner: Any, rows: Rows, count: int, step: float) -> list[Any]:
    """Fit one learner once and return it `count` times, with the network of each snapshot.

    Args:
        step: the learning rate, over the learner's own.
    """
    known = learner.get_params(deep=False)
    steady = {"schedule": "constant", "warmup": 0.0, "patience": None}
    with_knobs(
        learner, {"lr": known["lr"] * step} | {k: v for k, v in steady.items() if k in known}
    )
    network, (phase,) = planned(learner, rows)
    epochs = phase.max_epochs
    parts = [epochs - epochs // 2] if count > 1 else [epochs]
    parts += [max(1, math.ceil((epochs // 2) / max(count - 1, 1)))] * (count - 1)
    phases = [
        dataclasses.replace(
            phase, name=f"snapshot {place + 1}", rule=copy.copy(phase.rule), max_epochs=part,
            patience=None, keep="last", start=_taken if place else _as_it_is,
            rebuild=lambda arguments: SnapshotRun(copy.deepcopy(network), arguments["taken"]),
            ends_at=(place + 1) / count,
        )
        for place, part in enumerate(parts)
    ]  # fmt: skip
    trained = learner.train(SnapshotRun(network), phases)
    run = cast(SnapshotRun, trained.model).take()
    found = run.snapshots
    if len(found) < count:
        learner.notes_.append(f"the time limit left {len(found)} of {count} snapshots")
    members = []
    for snapshot in found:
        member = copy.copy(learner)
        member.network_ = copy.deepcopy(snapshot).requires_grad_(True).eval()
        members.append(member)
    return members


def _as_it_is(run: nn.Module) -> nn.Module:
    return run


def _taken(run: nn.Module) -> nn.Module:
    return cast(SnapshotRun, run).take()
