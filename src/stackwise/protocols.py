"""What shared code asks of a task, of what a task may be able to do besides, and of a run.

A task says what data asks of a model. Its core is small: everything here that is not in `Task` is
a capability, for which shared code asks with `isinstance`, so that a task of another kind leaves it
out and nothing breaks. Nothing outside of these classes may be asked of a task.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor, nn

Part = Literal["train", "validation", "test"]
Mode = Literal["min", "max"]


class Deciding(Protocol):
    """The score that decides: its name among the scores, and whether less or more is better."""

    @property
    def name(self) -> str: ...
    @property
    def mode(self) -> Mode: ...


@dataclass(frozen=True)
class Judged:
    """How well a learner does on a part.

    Attributes:
        scores: every score by name, the deciding one first.
        samples: one row a sample: `row`, its number in the source, and what was answered. Where
            samples are not rows of a table, `value` and `weight` too: the deciding score follows
            from the weighted mean of the values.
        seconds: of predicting them all. one: of predicting one, or None.
    """

    scores: dict[str, float]
    samples: "pd.DataFrame"
    seconds: float
    one: float | None = None


class RunLike(Protocol):
    """A finished run, as those see it who lie below runs."""

    @property
    def folder(self) -> Path: ...
    @property
    def record(self) -> dict[str, Any]: ...
    @property
    def predictions(self) -> "pd.DataFrame": ...
    def predictions_on(self, part: Literal["validation", "test"]) -> "pd.DataFrame": ...


@runtime_checkable
class Task(Protocol):
    """The core: what every task offers. Its class is registered by `stackwise.catalog.task`.

    Attributes:
        name: what the catalog calls it, such as `table`; the name of its folder.
        ending: of its prediction files, such as `csv`.
        problem: what is predicted, such as `regression`.
        metric: the score that decides.
        notes: sentences about what was dropped or inferred.
        data_hash: of the samples and the split; equal hashes, equal data.
        size_bytes: what the data takes in memory, for planning how many runs fit side by side.
    """

    name: ClassVar[str]
    ending: ClassVar[str]
    notes: list[str]
    data_hash: str

    @property
    def problem(self) -> str: ...
    @property
    def metric(self) -> Deciding: ...
    @property
    def size_bytes(self) -> int: ...

    @classmethod
    def load(cls, source: Any, **options: Any) -> "Task":
        """Read a source. The typed options are what a command line offers about the data.

        Raises:
            DataError: one sentence about what cannot be used, and what would be right.
        """
        ...

    @staticmethod
    def recognises(source: Any) -> float:
        """How sure it is that a file or folder is of its kind, 0 to 1, by marks alone."""
        ...

    @classmethod
    def small(cls) -> "Task":
        """A tiny instance, on which a method is tried in a second."""
        ...

    def fit(self, learner: Any) -> Any:
        """Fit a learner on the training part; the validation part decides when to stop."""
        ...

    def judge(self, learner: Any, part: Part) -> Judged:
        """Score a fitted learner on a part. The test part is for the final score alone."""
        ...

    def resampled(self, run: RunLike) -> "tuple[int, Callable[[np.ndarray], float]]":
        """The number of test samples that a finished run was scored on, and its deciding score on
        any of them: (row numbers, with repeats) -> score.
        """
        ...

    @staticmethod
    def write_predictions(path: Path | str, learner: Any, source: Any, **options: Any) -> int:
        """Write one prediction a row of `source`, in its order; returns the rows written."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON: `name`, `task`, `target`, `problem`,
        `rows` by part, `metric`, `options`, `notes` and `hash`, and what the task adds.
        """
        ...


@runtime_checkable
class Trains(Protocol):
    """A task on which any module can be trained: what transforms and adapters need."""

    def batches(
        self, part: Part, *, model: Any = None, batch_size: int | None = None, seed: int = 0
    ) -> Any:
        """The part as `stackwise.training.Batches`, each a dictionary of tensors, in a new order
        each epoch; `model` is asked for what reading needs (a tokenizer, an image size).
        """
        ...

    def loss(self, model: "nn.Module", batch: "Mapping[str, Tensor]") -> "Tensor":
        """The scalar that training makes small on one batch."""
        ...


@runtime_checkable
class MayLackTruth(Protocol):
    """A task whose truth may be missing: its `judge` then gives no scores."""

    @property
    def unscored(self) -> str | None:
        """Why nothing is scored, and what would be right; None where there is a truth."""
        ...


@runtime_checkable
class Heads(Protocol):
    """A task for which a model has a head, which is put on where it lacks it."""

    def headed(self, model: Any) -> Any:
        """The model with such a head: itself where it has one. The same model gets the same one.

        Raises:
            ModelError: none can be put on it.
        """
        ...


@runtime_checkable
class Foldable(Protocol):
    """A task whose training and validation samples can be parted into folds, for bagging and for
    joining finished runs.

    Attributes:
        classes: what is predicted, in the order of probabilities; None for a number.
        options: those of `load` that differ from their defaults, as JSON.
    """

    classes: "np.ndarray | None"
    options: dict[str, Any]

    def folds(self, count: int) -> "np.ndarray":
        """(n,) the fold of each training and then each validation sample.

        Raises:
            DataError: they are too few, or folds would mix what belongs apart.
        """
        ...

    def bagged(self, learner: Any, folds: "np.ndarray") -> Any:
        """Fit a copy of `learner` for each fold; they answer by their mean."""
        ...

    def answers(self, run: RunLike, part: Literal["validation", "test"]) -> "np.ndarray":
        """(n,) numbers or (n, C) probabilities that a finished run gave, in the task's order."""
        ...


@runtime_checkable
class Chooses(Foldable, Protocol):
    """A task that keeps the samples by which methods are chosen apart from those that stop fits.

    Attributes:
        choosing_folds: into how many folds training and validation samples are parted to choose
            by; None where a part of the validation samples is enough.
    """

    @property
    def choosing_folds(self) -> int | None: ...

    def parted(self) -> "tuple[Task, Task]":
        """The task with the validation samples that stop fits, and with those that choose."""
        ...

    def chosen_by(self, run: RunLike) -> "tuple[np.ndarray, Callable[[np.ndarray], float]]":
        """The samples that choose, by their numbers, and a finished run's deciding score on any of
        them: (places in these, with repeats) -> score.
        """
        ...


@runtime_checkable
class Explains(Protocol):
    """A task that can say what it reads and which of that a learner uses.

    Attributes:
        columns: `column`, `kind` and `done` of each thing that is read.
    """

    columns: list[dict[str, str]]

    def columns_of(self, learner: Any) -> list[dict[str, str]]:
        """`columns` as a fitted learner reads them."""
        ...

    def importance(self, learner: Any, *, seconds: float | None = None) -> list[dict[str, Any]]:
        """`column`, `mean` and `std`: how much worse the deciding score gets without it.

        Args:
            seconds: that it may take, where that is limited.
        """
        ...


@runtime_checkable
class Shows(Protocol):
    """A task that lays pictures and tables of its own out in a report."""

    @classmethod
    def shows(cls, runs: Sequence[RunLike], data: Mapping[str, Any]) -> Any:
        """`Findings` about finished runs, the best first; `data` is what `describe` recorded."""
        ...


@runtime_checkable
class AnswersRows(Protocol):
    """A task whose new samples are rows, which a learner answers wherever they lie."""

    @staticmethod
    def answer_rows(
        learner: Any, source: Any, *, run: RunLike | None = None, **options: Any
    ) -> "pd.DataFrame":
        """`prediction` of each row of a source, in its order, and `probability_<class>` of classes;
        the options are those of `write_predictions`.

        Args:
            run: that holds the learner: what it answered on validation rows says how sure it is.
        """
        ...


@runtime_checkable
class Whole(Protocol):
    """A task that can give all its samples to learn from, once a choice was made."""

    def whole(self) -> Any:
        """The same task with every sample in its training part, and none in the others."""
        ...


@runtime_checkable
class ExplainsRows(Protocol):
    """A task that can say what a learner makes of a column, and of the cells of a row."""

    @staticmethod
    def partial_dependence(
        learner: Any, rows: Any, column: str, *, values: int = 20
    ) -> "pd.DataFrame":
        """The mean answer over the rows while a column is set to each of some values."""
        ...

    @staticmethod
    def contributions(learner: Any, rows: Any, background: Any) -> "pd.DataFrame":
        """What each cell adds to a row's answer; `base` and the row's cells add up to it."""
        ...
