"""Cross-validated bagging: k copies of a learner, each fitted without one fold, averaged.

    prediction(x)  = 1 / k sum_i f_i(x)          probabilities for classes
    out of fold    = f_i(x) for the rows x of fold i, which f_i has not learned from

All training and validation rows are parted into k folds; copy i learns from the others and stops
early by fold i. The out-of-fold predictions say how good a copy is on rows that it has not learned
from, and are what stacking learns on. Any learner can be bagged, so that a comparison stays fair.
"""

import copy
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from stackwise.errors import RunError
from stackwise.files import read_json, write_json
from stackwise.models import load_learner
from stackwise.tasks.table.predictions import predict_once
from stackwise.training.session import Session, current_session, session

FORMAT = 1


class Bagged:
    """Copies of a learner over folds.

    Attributes:
        members: the fitted copies.
        classes_: sorted, for classes.
        out_of_fold_: predictions (n,) and probabilities (n, C) or None, of `out_of_fold_rows_`.
        seconds_: what fitting all copies took.
    """

    members: list[Any]

    def __init__(self, learner: Any) -> None:
        """Bag copies of `learner`, which is not fitted itself."""
        self.learner = learner

    def fit(self, task: Any, folds: np.ndarray) -> Self:
        """Fit a copy for each fold of the task's training and validation rows.

        Inside a run's session a copy is kept as soon as it is fitted, and found there again.

        Args:
            task: a loaded task.
            folds: (n,) the fold of each training and then each validation row.
        """
        (X, y), (Z, z) = task.part("train"), task.part("validation")
        frame, target = pd.concat([X, Z]), np.concatenate([y, z])
        outer = current_session()
        watched = {} if task.watched is None else {"metric": task.watched}
        count = int(folds.max()) + 1
        self.members, self.seconds_ = [], 0.0
        for fold in range(count):
            learned, held = folds != fold, folds == fold
            given = (frame[learned], target[learned]), (frame[held], target[held])
            self.members.append(self._member(fold, count, given, watched, outer))
        if task.classes is not None:
            self.classes_ = np.unique(target)
        self.notes_ = list(dict.fromkeys(n for m in self.members for n in m.notes_))
        self._predict_out_of_fold(frame, target, folds)
        return self

    def _member(self, fold: int, count: int, given: Any, watched: Any, outer: Session) -> Any:
        """Fit the copy of a fold, or read it back where it was kept."""
        folder = None if outer.folder is None else outer.folder / f"fold-{fold}"
        if folder is not None and (folder / "fold.json").is_file():
            self.seconds_ += read_json(folder / "fold.json")["seconds"]
            return load_learner(folder)
        left = outer.seconds_left()

        def told(event: dict[str, Any]) -> None:
            if outer.on_event is not None:
                outer.on_event(event | {"phase": f"fold {fold + 1} of {count}"})

        member = copy.deepcopy(self.learner)
        began = time.perf_counter()
        with session(
            folder=folder, resume=outer.resume, on_event=told,
            time_limit=None if left is None else max(left, 1.0) / (count - fold),
        ):  # fmt: skip
            (X, y), held = given
            member.fit(X, y, validation=held, **watched)
        seconds = time.perf_counter() - began
        self.seconds_ += seconds
        if folder is not None:
            member.save(folder)
            write_json(folder / "fold.json", {"seconds": seconds})  # last: the copy is complete
            for path in (folder / "checkpoint").glob("*"):
                path.unlink()
        return member

    def _predict_out_of_fold(
        self, frame: pd.DataFrame, target: np.ndarray, folds: np.ndarray
    ) -> None:
        by_class = hasattr(self, "classes_")
        shape = (len(frame), len(self.classes_)) if by_class else (len(frame),)
        found = np.zeros(shape)
        for fold, member in enumerate(self.members):
            held = np.flatnonzero(folds == fold)
            found[held] = self._of(member, frame.iloc[held])
        self.out_of_fold_rows_ = frame, target
        self.out_of_fold_ = (self.classes_[found.argmax(1)], found) if by_class else (found, None)

    def _of(self, member: Any, X: Any) -> np.ndarray:
        """(n,) values or (n, C) probabilities of one copy; 0 for classes that it never saw."""
        values, probability = predict_once(member, X)
        if probability is None:
            return values
        found = np.zeros((len(probability), len(self.classes_)))
        found[:, np.searchsorted(self.classes_, member.classes_)] = probability
        return found

    def _mean(self, X: Any) -> np.ndarray:
        total = self._of(self.members[0], X)
        for member in self.members[1:]:
            total = total + self._of(member, X)
        return np.asarray(total / len(self.members))

    def predict(self, X: Any) -> np.ndarray:
        """(n,) mean values, or the classes of the highest mean probability."""
        mean = self._mean(X)
        return self.classes_[mean.argmax(1)] if hasattr(self, "classes_") else mean

    def __getattr__(self, name: str) -> Any:
        if name == "predict_proba" and "classes_" in self.__dict__:
            return self._mean
        raise AttributeError(f"a bagged learner has no {name!r}")

    @property
    def contract_(self) -> Any:
        """The columns as the first copy reads them."""
        return self.members[0].contract_

    def save(self, folder: Path | str) -> None:
        """Write all copies, each in a folder of its own."""
        folder = Path(folder)
        for fold, member in enumerate(self.members):
            if not (folder / f"fold-{fold}" / "fold.json").is_file():
                member.save(folder / f"fold-{fold}")
        classes = getattr(self, "classes_", None)
        record = {
            "format": FORMAT,
            "class": "Bagged",
            "folds": len(self.members),
            "classes": None if classes is None else classes.tolist(),
            "dtype": None if classes is None else classes.dtype.str,
            "notes": self.notes_,
        }
        write_json(folder / "model.json", record)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read back what `save` wrote."""
        folder = Path(folder)
        record = read_json(folder / "model.json")
        if record["format"] > FORMAT:
            raise RunError(f"{folder} was written by a newer stackwise")
        members = [load_learner(folder / f"fold-{fold}") for fold in range(record["folds"])]
        made = cls(members[0])
        made.members, made.notes_ = members, record["notes"]
        if record["classes"] is not None:
            dtype = object if record["dtype"] == "|O" else np.dtype(record["dtype"])
            made.classes_ = np.array(record["classes"], dtype=dtype)
        return made
