"""What the tasks on language do alike: part samples, fit a learner, keep weighted samples."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from stackwise.errors import DataError
from stackwise.learning.metrics import Metric
from stackwise.protocols import Part, RunLike
from stackwise.tasks.described import described


class LanguageTask:
    """The part of the task protocol that text, chats and questions share."""

    name: ClassVar[str]
    ending: ClassVar[str] = "jsonl"
    target: ClassVar[str]
    problem: ClassVar[str]
    metric: ClassVar[Metric]

    title: str
    notes: list[str]
    data_hash: str
    options: dict[str, Any]

    def fit(self, learner: Any) -> Any:
        """Fit a learner on the training part; what is held out says when to stop."""
        return learner.fit(self)

    def resampled(self, run: RunLike) -> tuple[int, Callable[[np.ndarray], float]]:
        """The samples of a finished run's test part, and the weighted mean of any of them."""
        table = run.predictions
        value, weight = table["value"].to_numpy(), table["weight"].to_numpy()
        return len(table), lambda rows: float(np.average(value[rows], weights=weight[rows]))

    def rows(self) -> dict[str, int]:
        """Samples of each part."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        return described(self, self.rows())


class PartedTask(LanguageTask):
    """Samples in a list, parted at random."""

    _rows: dict[str, np.ndarray]

    def _part(self, count: int, validation: float, test: float, seed: int, what: str) -> None:
        """Draw the rows of each part.

        Raises:
            DataError: there are too few.
        """
        order = np.random.default_rng(seed).permutation(count)
        held = max(1, round(validation * count)), max(1, round(test * count))
        if sum(held) >= count:
            raise DataError(f"{count} {what} are too few to part; give at least 5")
        self._rows = {
            "test": np.sort(order[: held[1]]),
            "validation": np.sort(order[held[1] : sum(held)]),
            "train": np.sort(order[sum(held) :]),
        }

    def rows_of(self, part: Part) -> np.ndarray:
        """The numbers of a part's samples."""
        if part not in self._rows:
            raise DataError(f"there is no part {part!r}; there is train, validation and test")
        return self._rows[part]

    def rows(self) -> dict[str, int]:
        """Samples of each part."""
        return {part: len(rows) for part, rows in self._rows.items()}
