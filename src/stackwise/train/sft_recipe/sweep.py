"""Try several recipes and stop the worse half early, or go up and down for a learning rate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stackwise.errors import StudyError
from stackwise.train.sft_recipe.learner import FineTuned
from stackwise.train.sft_recipe.monitor import early_rank

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Swept:
    """What a sweep found.

    Attributes:
        table: a row a run: its early signs, whether it was finished, its validation loss.
        best: the best finished run. saved: share of the training that stopping early spared.
    """

    table: "pd.DataFrame"
    best: FineTuned
    saved: float


def sweep(
    model: Any,
    task: Any,
    runs: Mapping[str, Mapping[str, Any]],
    *,
    keep: float = 0.5,
    at: float = 0.1,
    **shared: Any,
) -> Swept:
    """Train every run for a share `at` of its samples, rank them by their early signs, finish the
    best `keep` of them.

    The beginnings are trained again by those that are finished; the saving counts that.

    Args:
        runs: knobs of `FineTuned` by name. shared: knobs of all.

    Raises:
        StudyError: fewer than two runs, or shares outside of 0 to 1.
    """
    if len(runs) < 2 or not 0 < keep < 1 or not 0 < at < 1:
        raise StudyError("a sweep needs at least 2 runs, and shares keep and at between 0 and 1")
    begun = {name: _begun(model, task, {**shared, **knobs}, at) for name, knobs in runs.items()}
    table = early_rank({name: learner.monitor_ for name, learner in begun.items()}, at=1.0)
    kept = list(table.index[: max(1, math.ceil(keep * len(runs)))])
    done = {name: FineTuned(model=model, **{**shared, **runs[name]}).fit(task) for name in kept}
    scores = {name: task.judge(learner, "validation").scores["loss"]
              for name, learner in done.items()}  # fmt: skip
    table["finished"] = [name in done for name in table.index]
    table["validation_loss"] = [scores.get(str(name), math.nan) for name in table.index]
    best = min(scores, key=lambda name: scores[name])
    return Swept(table, done[best], 1 - at - len(kept) / len(runs))


def _begun(model: Any, task: Any, knobs: Mapping[str, Any], at: float) -> FineTuned:
    """A run that ends after a share of its steps; its rates are those of the whole run."""
    learner = Beginning(model=model, **knobs)
    learner.at = at
    return learner.fit(task)  # type: ignore[no-any-return]


class Beginning(FineTuned):
    """The first part of a fine-tuning."""

    at = 0.1

    def phases(self, task: Any, model: Any) -> Any:
        """The phases, cut off after a share of all steps."""
        found = super().phases(task, model)
        steps = sum(len(phase.batches) * phase.max_epochs for phase in found)
        left = max(1, round(self.at * steps))
        for place, phase in enumerate(found):
            whole = len(phase.batches) * phase.max_epochs
            if whole >= left:
                phase.schedule_steps = whole
                phase.batches = _Cut(phase.batches, left)
                phase.max_epochs, phase.keep = 1, "last"
                return found[: place + 1]
            left -= whole
        return found


class _Cut:
    """The first steps of some batches, epoch after epoch, as one epoch."""

    def __init__(self, batches: Any, steps: int) -> None:
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return self.steps

    def epoch(self, index: int, start: int = 0) -> Any:
        """The steps from `start` on."""
        whole, place = len(self.batches), start
        while place < self.steps:
            epoch, step = divmod(place, whole)
            for batch in self.batches.epoch(epoch, step):
                if place == self.steps:
                    return
                yield batch
                place += 1


def find_lr(
    model: Any, task: Any, *, start: float = 2e-5, factor: float = 3.0, most: int = 6, **shared: Any
) -> "pd.DataFrame":
    """The paper's search: try one value lower and one higher, go to the better one, and again.

    Returns:
        `lr` and `validation_loss` of every value tried, in the order of the values.
    """
    import pandas as pd

    tried: dict[float, float] = {}

    def loss(lr: float) -> float:
        if lr not in tried:
            learner = FineTuned(model=model, **{**shared, "lr": lr}).fit(task)
            tried[lr] = task.judge(learner, "validation").scores["loss"]
        return tried[lr]

    power = 0  # whole powers of the factor, so that no value is tried twice
    loss(start)
    while len(tried) < most:
        best = min((power, power - 1, power + 1), key=lambda p: loss(start * factor**p))
        if best == power:
            break
        power = best
    return pd.DataFrame(sorted(tried.items()), columns=["lr", "validation_loss"])
