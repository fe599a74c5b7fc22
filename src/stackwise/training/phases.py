"""What a fit is made of, and what it makes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from stackwise.training.batches import Batches
from stackwise.training.rules import Rule


@dataclass
class Phase:
    """A part of a fit: one rule, one budget.

    Attributes:
        start: previous model -> the model of this phase. By default it goes on with the same.
        rebuild: constructor arguments (`model.arguments`) -> a model of the same form; needed to
            resume into a phase whose `start` made another model.
        schedule_steps: over which the learning rate's schedule goes; None for those of the phase.
        keep: whether the phase ends with its best or its last weights.
        ends_at: share of the time that a limit leaves the fit, after which the next phase begins.
        slack: how much worse than the best the watched score may be before the phase ends; None for
            any.
    """

    name: str
    rule: Rule
    batches: Batches
    max_epochs: int
    patience: int | None = None
    start: Callable[[nn.Module], nn.Module] = lambda previous: previous
    rebuild: Callable[[dict[str, Any]], nn.Module] | None = None
    keep: Literal["best", "last"] = "best"
    schedule_steps: int | None = None
    ends_at: float = 1.0
    slack: float | None = None


@dataclass
class Trained:
    """What a fit made.

    Attributes:
        history: a line an epoch, as in metrics.jsonl.
        best_epoch: of the last phase, counted from 1. best_score: None where nothing is watched.
        stopped: "epochs", "patience", "slack" or "time".
        steps: batches of the last phase. seconds: of the whole fit, before a resume too.
    """

    model: nn.Module
    history: list[dict[str, Any]]
    best_epoch: int
    best_score: float | None
    stopped: str
    steps: int
    seconds: float
