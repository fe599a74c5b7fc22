"""Tasks: what data asks of a model.

A task reads a source, parts its rows, says how far a prediction is from the truth, and writes the
predictions of new rows. Its `load` signature is what a command line offers about the data. There
are tables, text, instructions (chats) and choices (questions); `task_class` finds one by name.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from stackwise.errors import KnobError, UnknownName, nearest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Part = Literal["train", "validation", "test"]
TASKS = {
    "table": "stackwise.tasks.table.task:TableTask",
    "text": "stackwise.tasks.text.task:TextTask",
    "instructions": "stackwise.tasks.instructions.task:InstructionsTask",
    "choices": "stackwise.tasks.choices.task:ChoicesTask",
}
"""Where each task is, by its name."""


def task_class(name: str) -> Any:
    """The class of the task `name`; `UnknownName` names the nearest one."""
    if name not in TASKS:
        raise UnknownName(f"there is no task {name!r}.{nearest(name, TASKS)}")
    module, _, found = TASKS[name].partition(":")
    return getattr(importlib.import_module(module), found)


def open_task(name: str, source: Any, options: Mapping[str, Any]) -> Any:
    """Load the task `name`. Words from a command line are read as the option's type.

    Raises:
        KnobError: the task has no such option, or a value is out of its bounds.
        DataError: the source cannot be used.
    """
    from stackwise.knobs import check_values, knobs_of

    cls = task_class(name)
    specs = knobs_of(cls.load)
    plain = {key: value for key, value in options.items() if key not in specs}
    known = inspect.signature(cls.load).parameters
    for key in plain:
        if key not in known or key == "source":
            offered = [option for option in known if option != "source"]
            raise KnobError(f"a {name} has no option {key!r}.{nearest(key, offered)}")
    named = {key: value for key, value in options.items() if key in specs}
    return cls.load(source, **plain, **check_values(f"a {name}", specs, named, texts=True))


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


@runtime_checkable
class Task(Protocol):
    """What every task offers.

    Attributes:
        name: what the catalog calls it, such as `table`.
        baselines: slugs that every comparison on it includes.
        problem: what is predicted, such as `regression`.
        data_hash: of the rows and the split; equal hashes, equal data.
        notes: sentences about what was dropped or inferred.
        size_bytes: what the data takes in memory, for planning how many runs fit side by side.
    """

    name: ClassVar[str]
    baselines: ClassVar[tuple[str, ...]]
    problem: Any
    data_hash: str
    notes: list[str]

    @property
    def size_bytes(self) -> int: ...

    @classmethod
    def load(cls, source: Any, **roles: Any) -> "Task":
        """Read the source. `roles` say which part of it plays which role, such as `target`."""
        ...

    def part(self, part: Part) -> tuple[Any, Any]:
        """The inputs and the truth of one part. The test part is for the final score alone."""
        ...

    def batches(self, part: Part) -> Iterator[dict[str, Any]]:
        """The part as batches, each a dictionary of tensors, in the order of its rows."""
        ...

    def loss(self, model: Any, batch: Mapping[str, Any]) -> Any:
        """The scalar that training makes small on one batch."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the scores, the deciding one first."""
        ...

    def score(self, truth: Any, prediction: Any, probability: Any = None) -> dict[str, float]:
        """Every score by name."""
        ...

    def fit(self, learner: Any) -> Any:
        """Fit a learner on the training part; the validation part decides when to stop."""
        ...

    def judge(self, learner: Any, part: Part) -> Judged:
        """Score a fitted learner on a part."""
        ...

    def resampled(self, run: Any) -> "tuple[int, Callable[[np.ndarray], float]]":
        """The number of test samples that a finished run was scored on, and its deciding score on
        any of them: (row numbers, with repeats) -> score.
        """
        ...

    def write_predictions(self, path: Path | str, learner: Any, source: Any) -> int:
        """Write one prediction a row of `source`, in its order; returns the rows written."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        ...
