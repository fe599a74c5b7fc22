"""Cross-validated bagging: k copies of a learner, each fitted without one fold, averaged.

    prediction(x)  = 1 / k sum_i f_i(x)          probabilities of classes, or margins
    out of fold    = f_i(x) for the rows x of fold i, which f_i has not learned from

All training and validation rows are parted into k folds; copy i learns from the others, and stops
early by a fifth of these: what stops it is not what judges it. The out-of-fold predictions say how
good a copy is on rows that it has not learned from, and are what stacking learns on. Any learner
can be bagged, so that a comparison stays fair.
"""

import copy
import warnings
from pathlib import Path
from typing import Any, Self

import numpy as np

from stackwise.catalog import ensemble
from stackwise.errors import OutOfTime
from stackwise.files import read_json, remove, write_json
from stackwise.learning.labelled_rows import taken
from stackwise.models import load_learner
from stackwise.progress import part_of
from stackwise.shapes import NUMBER
from stackwise.tasks.labelled.answers import Answers
from stackwise.tasks.labelled.counted import CountedRows
from stackwise.tasks.labelled.ensembles.joined import Joined
from stackwise.tasks.labelled.rows import joined
from stackwise.training.session import Session, cost_clock, current_session, session

OVERSHOT = 1.5
"""Times its share of a limit that a copy has to take before it is asked whether the rest fits."""
LATE = 5.0
"""Seconds that all copies together may end late: what a short limit does to a quick method."""


@ensemble("bagged", title="Copies of a learner over folds", tasks=("table",))
class Bagged(Joined):
    """Copies of a learner over folds.

    Attributes:
        out_of_fold_: the answers for `out_of_fold_rows_`.
        seconds_: what fitting all copies took.
    """

    def __init__(self, learner: Any = None) -> None:
        """Bag copies of `learner`, which is not fitted itself."""
        self.learner = learner

    def fit(self, task: Any, folds: np.ndarray) -> Self:
        """Fit a copy for each fold of the task's training and validation rows.

        Inside a run's session a copy is kept as soon as it is fitted, and found there again.

        Args:
            task: a loaded task.
            folds: (n,) the fold of each training and then each validation row.

        Raises:
            OutOfTime: copies cannot be as quick as the session's time limit wants them.
        """
        (X, y), (Z, z) = task.part("train"), task.part("validation")
        samples, target = joined([X, Z]), np.concatenate([y, z])
        outer = current_session()
        count = int(folds.max()) + 1
        self.members, self.seconds_ = {}, 0.0
        told = task.told(self.learner)
        for fold in range(count):
            learned = folds != fold
            stops = task.stopping(learned, seed=fold)
            fits = learned & ~stops
            given = tuple((taken(samples, rows), target[rows])
                          for rows in (np.flatnonzero(fits), np.flatnonzero(stops)))  # fmt: skip
            self.members[f"fold-{fold}"] = self._member(fold, count, given, told, outer)
        if task.classes is not None:
            self.classes_ = np.unique(target)
        self.notes_ = list(dict.fromkeys(n for m in self.members.values() for n in m.notes_))
        self._predict_out_of_fold(samples, target, folds)
        return self

    def _member(self, fold: int, count: int, given: Any, options: Any, outer: Session) -> Any:
        """Fit the copy of a fold, or read it back where it was kept."""
        folder = None if outer.folder is None else outer.folder / f"fold-{fold}"
        if folder is not None and (folder / "fold.json").is_file():
            self.seconds_ += read_json(folder / "fold.json", {"seconds": NUMBER})["seconds"]
            remove(folder / "checkpoint")  # a kill may have come before it was
            return load_learner(folder)
        left = outer.seconds_left()

        def told(event: dict[str, Any]) -> None:
            if outer.on_event is not None:
                outer.on_event(part_of(event, fold, count, "fold"))

        member = copy.deepcopy(self.learner)
        began = cost_clock()
        share = None if left is None else max(left, 1.0) / (count - fold)
        with session(folder=folder, resume=outer.resume, on_event=told, time_limit=share):
            (X, y), (Z, z) = given
            member.fit(X, y, validation=(Z, z) if len(z) else None, **options)
        seconds = cost_clock() - began
        self.seconds_ += seconds
        if folder is not None:
            member.save(folder)
            write_json(folder / "fold.json", {"seconds": seconds})  # last: the copy is complete
            remove(folder / "checkpoint")
        more, after = count - fold - 1, outer.seconds_left()
        # the first copy may wait for what is imported or compiled once
        late = fold > 0 and share is not None and seconds > OVERSHOT * share
        if late and after is not None and more * seconds > after + LATE:
            raise OutOfTime(
                f"a copy took {seconds:.1f} s where its share of the time limit was {share:.1f} s, "
                f"and {more} more do not fit into what is left; --resume with more time goes on "
                "from here"
            )
        return member

    def _predict_out_of_fold(self, samples: Any, target: np.ndarray, folds: np.ndarray) -> None:
        by_class = hasattr(self, "classes_")
        found = np.zeros((len(target), len(self.classes_)) if by_class else len(target))
        for fold, member in enumerate(self.members.values()):
            held = np.flatnonzero(folds == fold)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CountedRows)  # expected of rows held out
                found[held] = self._of(member, taken(samples, held))
        self.out_of_fold_rows_ = samples, target
        if not by_class:
            self.out_of_fold_ = Answers(found)
            return
        said = self.classes_[found.argmax(1)]
        margins = not hasattr(self, "predict_proba")
        self.out_of_fold_ = Answers(said, None, found) if margins else Answers(said, found)

    def _answer(self, X: Any) -> np.ndarray:
        """The mean of the copies."""
        first, *others = self.members.values()
        total = self._of(first, X)
        for member in others:
            total = total + self._of(member, X)
        return np.asarray(total / len(self.members))

    def save(self, folder: Path | str) -> None:
        """Write all copies; those that were kept while they were fitted stay."""
        folder = Path(folder)
        here = {path.parent.name for path in folder.glob("*/fold.json")}
        self._save_members(folder, [name for name in self.members if name not in here])

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read back what `save` wrote."""
        made = cls()
        made._read_members(Path(folder))
        return made
