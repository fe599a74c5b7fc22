"""Fitted learners joined by a stacking model: it holds those that it needs, and predicts by itself.

`join` makes one from the runs of a comparison: what joins them learns on the runs' answers for rows
that they did not learn from. Members whose budget is known are then fitted once more, on all rows
but the test's.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from stackwise.catalog import ensemble
from stackwise.combine.regularized_meta_learning.stacked_predictions import StackedPredictions
from stackwise.errors import StackwiseError
from stackwise.files import plain, write_json
from stackwise.models import load_learner
from stackwise.protocols import RunLike
from stackwise.tasks.labelled.answers import Answers
from stackwise.tasks.labelled.ensembles.joined import Joined
from stackwise.tasks.labelled.ensembles.whole import fitted_on_all
from stackwise.tasks.labelled.folds import Folds

MODEL = "stack.json"
JOINING = 0.5
"""Share of the time that the meta-models may take; the rest is for members on all rows."""
FEWEST_ROWS = 30
"""Fewer validation rows than this are too few for folds within folds."""


@ensemble(
    "regularized-meta-learning", title="Stacking with regularised meta-models", tasks=("table",),
    verb="combine",
)  # fmt: skip
class Stacked(Joined):
    """Fitted learners and the model that joins their predictions, `joined`."""

    def __init__(
        self,
        members: Mapping[str, Any],
        joined: StackedPredictions,
        classes: np.ndarray | None = None,
        notes: list[str] | None = None,
    ) -> None:
        """Join `members`, whose names are those that `joined` has learned on."""
        self.members = dict(members)
        self.joined = joined
        self.notes_ = notes or []
        if classes is not None:
            self.classes_ = classes

    @classmethod
    def join(
        cls, task: Any, members: Mapping[str, RunLike], *, seed: int, seconds: float | None = None
    ) -> Self:
        """Learn to join finished runs from their answers on validation rows.

        The answers for these rows by meta-models that had not seen them are kept with it, as
        `out_of_fold_`: they are what it is judged by there. Where the runs answered out of fold,
        its folds are theirs.

        Args:
            seconds: that joining, and fitting members on all rows, may take; None for no limit.

        Raises:
            StackwiseError: there are too few validation rows.
        """
        end = None if seconds is None else time.monotonic() + seconds
        first = next(iter(members.values())).predictions_on("validation")
        target = first["target"].to_numpy()
        if len(target) < FEWEST_ROWS:
            raise StackwiseError(
                f"{len(target)} validation rows are too few to join runs on; give --bag or more "
                "rows"
            )
        known = np.ones(len(target), dtype=bool)
        if task.classes is not None:
            known = np.isin(target, task.classes)
        found = {name: task.answers(run, "validation")[known] for name, run in members.items()}
        own = _folds_of(task, known)
        joined = StackedPredictions(
            problem="regression" if task.classes is None else "classification",
            classes=None if task.classes is None else list(task.classes), random_state=seed,
            **({} if own is None else {"meta_cv": own}),
        ).fit(
            found, target[known], ordered="time" in task.options, few_is_fine=True,
            seconds=None if end is None else JOINING * (end - time.monotonic()),
        )  # fmt: skip
        kept, again = {}, []
        for name in joined.kept_:
            kept[name] = load_learner(members[name].folder)
            took = float(members[name].record["seconds"]["fit"])
            if end is None or time.monotonic() + 2 * took < end:
                whole = fitted_on_all(kept[name], task)
                again += [name] if whole is not None else []
                kept[name] = kept[name] if whole is None else whole
        listed = ", ".join(joined.kept_)
        notes = [f"joins {len(joined.kept_)} of {len(members)} runs: {listed}"]
        if again:
            notes.append(f"fitted on all rows but the test's: {', '.join(again)}")
        made = cls(kept, joined, task.classes, notes + list(joined.pipeline_.notes_))
        made._set_cross_validated(first["row"].to_numpy()[known], target[known])
        return made

    def _set_cross_validated(self, rows: np.ndarray, target: np.ndarray) -> None:
        """Take the answers for rows that the meta-models had not seen."""
        found = self.joined.pipeline_.oof_
        judged = np.isfinite(found.reshape(len(found), -1)).all(1)
        found = found[judged]
        self.out_of_fold_rows_ = pd.DataFrame(index=rows[judged]), target[judged]
        by_class = hasattr(self, "classes_")
        self.out_of_fold_ = (
            Answers(self.classes_[found.argmax(1)], found) if by_class else Answers(found)
        )

    def _answer(self, X: Any) -> np.ndarray:
        found = {name: self._of(member, X) for name, member in self.members.items()}
        ask = self.joined.predict_proba if hasattr(self, "classes_") else self.joined.predict
        return ask(found)

    def save(self, folder: Path | str) -> None:
        """Write the members, each in a folder of its own, and what joins them."""
        folder = Path(folder)
        self.joined.save(folder / MODEL)
        write_json(folder / "weights.json", plain({
            "models": self.joined.pipeline_.weights_, "kept": self.joined.kept_,
            "dropped": self.joined.pipeline_.dropped_,
        }))  # fmt: skip
        self._save_members(folder, self.members)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read back what `save` wrote."""
        made = cls({}, StackedPredictions.load(Path(folder) / MODEL))
        made._read_members(Path(folder))
        return made


def _folds_of(task: Any, known: np.ndarray) -> Folds | None:
    """The folds out of which the runs answered, on the `known` of their rows; None for no folds."""
    count = task.choosing_folds
    if count is None:
        return None
    numbers = task.folds(count)
    if len(numbers) != len(known):  # of bagged runs, or of older ones
        return None
    numbers = numbers[known]
    return [(np.flatnonzero(numbers != n), np.flatnonzero(numbers == n)) for n in range(count)]
