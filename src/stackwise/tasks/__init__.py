"""Tasks: what data asks of a model.

A task reads a source, parts its rows, says how far a prediction is from the truth, and writes the
predictions of new rows. Its `load` signature is what a command line offers about the data. Tables
(`stackwise.tasks.table`) are the first; images, text, series and the others follow this protocol.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

Part = Literal["train", "validation", "test"]


@runtime_checkable
class Task(Protocol):
    """What every task offers.

    Attributes:
        name: what the catalog calls it, such as `table`.
        baselines: slugs that every comparison on it includes.
        problem: what is predicted, such as `regression`.
        data_hash: of the rows and the split; equal hashes, equal data.
        notes: sentences about what was dropped or inferred.
    """

    name: ClassVar[str]
    baselines: ClassVar[tuple[str, ...]]
    problem: Any
    data_hash: str
    notes: list[str]

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

    def write_predictions(self, path: Path | str, learner: Any, source: Any) -> int:
        """Write one prediction a row of `source`, in its order; returns the rows written."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        ...
