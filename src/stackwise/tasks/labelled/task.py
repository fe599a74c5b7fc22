"""What the tasks on samples with a target share: parts, folds, choices and scores.

A kind of data reads its source into parts, (samples, target) each, parted once when it is loaded;
samples offer what `stackwise.tasks.labelled.rows` names. The test part is for the final score:
nothing here looks at it but `part("test")`.
"""

import copy
import inspect
import warnings
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd

from stackwise.errors import DataError, nearest
from stackwise.learning.labelled_rows import taken
from stackwise.learning.metrics import Metric, Problem, score
from stackwise.protocols import Judged, Part, RunLike
from stackwise.tasks.described import described
from stackwise.tasks.labelled.answers import answer_frame, ask
from stackwise.tasks.labelled.choosing import choosing_folds, halves, stopping_rows
from stackwise.tasks.labelled.counted import CountedRows
from stackwise.tasks.labelled.ensembles.bagged import Bagged
from stackwise.tasks.labelled.folds import fold_numbers
from stackwise.tasks.labelled.rows import joined, numbers_of, size_of
from stackwise.training.session import cost_clock


class LabelledTask:
    """Samples with a target, parted into training, validation and test.

    Attributes:
        target: the name of what is predicted, where it has one.
        problem: regression, binary or multiclass.
        classes: the sorted classes of the training part, or None for regression.
        metric: the score that decides.
        watched: the same where it was asked for: early stopping then watches it too.
        notes: sentences about what was dropped or inferred.
        data_hash: of the samples, the split and the options.
    """

    name: ClassVar[str]

    title: str
    target: str | None
    problem: Problem
    classes: np.ndarray | None
    metric: Metric
    watched: Metric | None
    notes: list[str]
    data_hash: str
    options: dict[str, Any]

    _parts: dict[Part, tuple[Any, np.ndarray]]
    _groups: pd.Series | None = None

    def part(self, part: Part) -> tuple[Any, np.ndarray]:
        """The samples and the target of a part; the samples' index is their row in the source."""
        if part not in self._parts:
            raise DataError(f"there is no part {part!r}.{nearest(part, self._parts)}")
        return self._parts[part]

    @property
    def size_bytes(self) -> int:
        """Bytes that the samples take in memory."""
        return sum(size_of(samples) for samples, _ in self._parts.values())

    def fit(self, learner: Any) -> Any:
        """Fit a learner on the training part; the validation part decides when to stop.

        It is told what the task knows of its data, and the metric that was asked for, where it
        wants that.
        """
        told = self.told(learner)
        if len(self.part("validation")[1]):
            told["validation"] = self.part("validation")
        return learner.fit(*self.part("train"), **told, **self._known_of_data(learner))

    def told(self, learner: Any) -> dict[str, Any]:
        """What `fit` of a learner is told of the task beside samples, whatever part they are."""
        return {} if self.watched is None else {"metric": self.watched}

    def _known_of_data(self, learner: Any) -> dict[str, Any]:
        """What `fit` is told of the training part alone."""
        return {}

    def whole(self) -> Self:
        """The same task with all samples in the training part, for a last fit after the choice."""
        parts = [self._parts[part] for part in ("train", "validation", "test")]
        X, y = joined([X for X, _ in parts]), np.concatenate([y for _, y in parts])
        made = copy.copy(self)
        nothing = taken(X, np.arange(0)), y[:0]
        made._parts = {"train": (X, y), "validation": nothing, "test": nothing}
        made.notes = []
        made.classes = None if self.classes is None else np.unique(y)
        return made

    def judge(self, learner: Any, part: Part) -> Judged:
        """Score a fitted learner on a part; a bagged one's validation answers are out of fold."""
        X, y = self.part(part)
        began = cost_clock()
        if part == "validation" and hasattr(learner, "out_of_fold_"):
            X, y = learner.out_of_fold_rows_
            answers = learner.out_of_fold_
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CountedRows)  # said when the data was loaded
                answers = ask(learner, X)
        seconds = cost_clock() - began
        table = answer_frame(learner, answers)
        table.insert(0, "row", numbers_of(X))
        table.insert(1, "target", y)
        one = _one_sample_seconds(learner, X) if part == "test" else None
        scores = self.score(y, answers.prediction, answers.probability)
        if self.metric.name not in scores:
            raise DataError(
                f"{self.metric.name} needs probabilities, and a {type(learner).__name__} gives "
                "margins; take a metric of the predicted classes, such as accuracy"
            )
        return Judged(scores, table, seconds, one)

    def resampled(self, run: RunLike) -> tuple[int, Callable[[np.ndarray], float]]:
        """The test rows of a finished run, and its deciding score on any of them.

        A row of a class that training lacks is left out: no learner has a probability for it.
        """
        known, scorer = self._scorer(run, "test", self.part("test")[1])
        return len(known), scorer

    def chosen_by(self, run: RunLike) -> tuple[np.ndarray, Callable[[np.ndarray], float]]:
        """The rows that choose, by their number in the source, and a run's deciding score on any.

        The score takes places in these rows, with repeats.
        """
        table = run.predictions_on("validation")
        known, scorer = self._scorer(run, "validation", table["target"].to_numpy())
        return table["row"].to_numpy()[known], scorer

    def _scorer(
        self, run: RunLike, part: Literal["validation", "test"], truth: np.ndarray
    ) -> tuple[np.ndarray, Callable[[np.ndarray], float]]:
        """The places of the rows of known classes, and a run's deciding score on any of these."""
        keep = np.ones(len(truth), dtype=bool)
        if self.classes is not None:
            keep = np.isin(truth, self.classes)
        if self.metric.needs_probability and self.classes is not None:
            answer = self.answers(run, part)[keep]
            truth = np.searchsorted(self.classes, truth[keep])
        else:
            answer = run.predictions_on(part)["prediction"].to_numpy()[keep]
            truth = truth[keep]
        scored = self.metric.function
        assert scored is not None  # the metric of a task has one
        return np.flatnonzero(keep), lambda rows: scored(truth[rows], answer[rows])

    def answers(self, run: RunLike, part: Literal["validation", "test"]) -> np.ndarray:
        """(n,) predicted numbers or (n, C) probabilities of a finished run, in the order of
        `classes`; 0 for a class that the run does not know.

        Raises:
            DataError: the run gave margins, which are no probabilities.
        """
        table = run.predictions_on(part)
        if self.classes is None:
            return table["prediction"].to_numpy(dtype=np.float64)
        columns = [f"probability_{name}" for name in self.classes]
        if not set(columns) & set(table.columns):
            raise DataError(f"{run.record['slug']} gave no probabilities, which are asked for")
        return table.reindex(columns=columns, fill_value=0.0).to_numpy(dtype=np.float64)

    def bagged(self, learner: Any, folds: np.ndarray) -> Any:
        """Fit a copy of `learner` for each fold; see `Bagged`."""
        return Bagged(learner).fit(self, folds)

    def folds(self, count: int, *, seed: int = 0) -> np.ndarray:
        """Part the training and validation rows, in this order, into folds for bagging.

        Returns:
            (n,) int64 numbers 0 .. count - 1. Each class is shared out alike, a group stays whole.

        Raises:
            DataError: the rows are split by time, which folds would mix; or they are too few.
        """
        if "time" in self.options:
            raise DataError("rows that are split by time cannot be bagged: folds would mix times")
        labels, groups = self._learned("train", "validation")
        return fold_numbers(
            labels, count, by_class=self.classes is not None, groups=groups, seed=seed
        )

    def stopping(self, learned: np.ndarray, *, seed: int = 0) -> np.ndarray:
        """Of training and validation rows `learned` (n,) bool, those that say when to stop."""
        labels, groups = self._learned("train", "validation")
        return stopping_rows(
            labels, learned, by_class=self.classes is not None, groups=groups, seed=seed
        )

    @property
    def choosing_folds(self) -> int | None:
        """Into how many folds rows are parted to choose a method; see `labelled.choosing`."""
        rows = len(self._parts["train"][1]) + len(self._parts["validation"][1])
        return choosing_folds(self.options, rows)

    def parted(self) -> tuple[Self, Self]:
        """This task with the validation rows that stop fits, and with those that choose."""
        (X, y) = self._parts["validation"]
        labels, groups = self._learned("validation")
        places = halves(
            X, labels, by_class=self.classes is not None, groups=groups,
            time=self.options.get("time"), seed=int(self.options.get("split_seed", 0)),
        )  # fmt: skip
        made = []
        for rows in places:
            part = copy.copy(self)
            part._parts = self._parts | {"validation": (taken(X, rows), y[rows])}
            made.append(part)
        return made[0], made[1]

    def _learned(self, *parts: Part) -> tuple[np.ndarray, np.ndarray | None]:
        """The target of these parts' rows in turn, and (n,) their groups where they have some."""
        labels = np.concatenate([self._parts[part][1] for part in parts])
        if self._groups is None:
            return labels, None
        rows = np.concatenate([numbers_of(self._parts[part][0]) for part in parts])
        return labels, pd.factorize(self._groups.loc[rows])[0]

    def check_metric(self) -> None:
        """Refuse a metric that has no value on the rows that choose or on those that judge.

        Raises:
            DataError: not even the truth itself has a score, as where rows hold one class alone.
        """
        for part in ("validation", "test"):
            truth = self._parts[part][1]
            answer = truth
            if self.classes is not None:
                truth = truth[np.isin(truth, self.classes)]
                answer = truth
                if self.metric.needs_probability:
                    truth = np.searchsorted(self.classes, truth)
                    answer = np.eye(len(self.classes))[truth]
            scored = self.metric.function
            if not len(truth) or scored is None or not np.isnan(scored(truth, answer)):
                continue
            held = ""
            if self.classes is not None and len(found := np.unique(self._parts[part][1])) == 1:
                held = f": they hold one class, {str(found[0])!r}"
            raise DataError(
                f"{self.metric.name} has no value on the {part} rows{held}; give other {part} "
                "rows, or another metric"
            )

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the scores, the deciding one first."""
        y = np.arange(3) % 2
        sure = np.full((3, 2), 0.5)
        if self.problem == "regression":
            return tuple(score(self.problem, y, y, metric=self.metric))
        return tuple(score(self.problem, y, y, sure, metric=self.metric))

    def score(
        self, y: np.ndarray, prediction: np.ndarray, probability: np.ndarray | None = None
    ) -> dict[str, float]:
        """Every score by name, the deciding one first; probabilities are of `classes`."""
        names = None if self.classes is None else list(self.classes)
        return score(self.problem, y, prediction, probability, self.metric, names)

    def _class_shares(self) -> dict[str, float] | None:
        """The share of the training rows of each of the ten largest classes."""
        if self.classes is None:
            return None
        names, counts = np.unique(self._parts["train"][1], return_counts=True)
        largest = np.argsort(-counts, kind="stable")[:10]
        return {str(names[i]): float(counts[i] / counts.sum()) for i in largest}

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        return described(
            self,
            {part: len(y) for part, (_, y) in self._parts.items()},
            classes=None if self.classes is None else [str(name) for name in self.classes],
            shares=self._class_shares(),
        )


def wants(learner: Any, name: str) -> bool:
    """Whether `fit` of a learner takes an argument."""
    return name in inspect.signature(learner.fit).parameters


def classes_of(parts: dict[Part, tuple[Any, np.ndarray]], notes: list[str]) -> np.ndarray:
    """(C,) the classes of the training part, sorted; it is noted what other parts have besides."""
    classes = np.unique(parts["train"][1])
    others: tuple[Part, ...] = ("validation", "test")
    for part in others:
        strange = np.setdiff1d(parts[part][1], classes)
        if len(strange):
            rows = int(np.isin(parts[part][1], strange).sum())
            listed = ", ".join(str(name) for name in strange[:5])
            notes.append(
                f"the {part} part has classes without training rows: {listed} ({rows:,} rows)"
            )
    return classes


def class_codes(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(n,) int64 places in `classes`.

    Raises:
        DataError: one is no class of the training rows.
    """
    strange = np.setdiff1d(y, classes)
    if len(strange):
        raise DataError(f"class {strange[0]!s} has no training rows, so that it has no loss")
    return np.searchsorted(classes, y)


def _one_sample_seconds(learner: Any, X: Any) -> float:
    """Median seconds of predicting a single sample."""
    seconds = []
    for i in range(5):
        one = taken(X, np.array([i % len(X)]))
        began = cost_clock()
        learner.predict(one)
        seconds.append(cost_clock() - began)
    return sorted(seconds)[len(seconds) // 2]
