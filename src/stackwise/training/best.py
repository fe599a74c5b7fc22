"""Early stopping: the best score so far, its weights, and how long ago it was."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn


@dataclass
class Best:
    """The best state of a phase.

    Attributes:
        score: NaN before the first. epoch: where it was reached, counted from 1.
        stale: epochs since then without a strictly better one.
        behind: by how much the last score is worse.
        weights: the state dict of that moment, where it is kept.
    """

    score: float = math.nan
    epoch: int = -1
    stale: int = 0
    behind: float = 0.0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def consider(
        self, model: nn.Module, score: float, epoch: int, *, mode: Literal["min", "max"], keep: bool
    ) -> None:
        """Take `score` where it is strictly better; `keep` copies the weights too."""
        better = score < self.score if mode == "min" else score > self.score
        if not (better or math.isnan(self.score)):
            self.stale += 1
            self.behind = abs(score - self.score)
            return
        self.score, self.epoch, self.stale, self.behind = score, epoch, 0, 0.0
        if keep:
            self.weights = {name: t.detach().clone() for name, t in model.state_dict().items()}

    def place(self) -> dict[str, Any]:
        """What a checkpoint holds beside the weights."""
        return {"best_score": self.score, "best_epoch": self.epoch, "stale": self.stale}

    @classmethod
    def at(cls, place: dict[str, Any], weights: dict[str, Tensor]) -> "Best":
        """The inverse of `place`. JSON holds no NaN: it is null there."""
        score = math.nan if place["best_score"] is None else place["best_score"]
        return cls(score, place["best_epoch"], place["stale"], weights=weights)
