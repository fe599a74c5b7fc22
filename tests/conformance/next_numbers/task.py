"""Rows of numbers, a line each; the last of a row is predicted from those before it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from next_numbers.marks import recognises
from stackwise.catalog import Knob, task
from stackwise.errors import DataError
from stackwise.files import write_text
from stackwise.learning.metrics import Metric
from stackwise.protocols import Judged, Part, RunLike
from stackwise.training.batches import ArrayBatches


def read(source: Any) -> np.ndarray:
    """(n, length) numbers of a file or a list of rows."""
    rows = source
    if isinstance(source, (str, Path)):
        if not Path(source).is_file():
            raise DataError(f"there is no file {source}")
        rows = [line.split(",") for line in Path(source).read_text().splitlines() if line]
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{source} holds rows of several lengths, or no numbers") from error


@task(title="Rows of numbers, the last to predict", recognises=recognises)
class NextNumbers:
    """Rows of numbers, parted at random."""

    name: ClassVar[str] = "next-numbers"
    ending: ClassVar[str] = "txt"
    problem: ClassVar[str] = "next number"
    metric: ClassVar[Metric] = Metric("mse", "min")

    notes: list[str]
    data_hash: str
    options: dict[str, Any]

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        shift: Annotated[float, Knob("added to every number")] = 0.0,
        reverse: Annotated[bool, Knob("read rows from their end")] = False,
    ) -> Self:
        """Read rows and part them: every fifth is a test row, every next one a validation row."""
        made = cls()
        rows = read(source) + shift
        made.rows = rows[:, ::-1].copy() if reverse else rows
        place = np.arange(len(rows)) % 5
        made.parts = {"test": place == 0, "validation": place == 1, "train": place > 1}
        made.notes, made.options = [], {"shift": shift, "reverse": reverse}
        text = made.rows.tobytes() + json.dumps(made.options).encode()
        made.data_hash = hashlib.sha256(text).hexdigest()[:16]
        return made

    rows: np.ndarray
    parts: dict[str, np.ndarray]

    @property
    def size_bytes(self) -> int:
        """Bytes of the numbers."""
        return int(self.rows.nbytes)

    @classmethod
    def small(cls) -> Self:
        """Forty rows of four numbers, whose last is the sum of the others."""
        first = np.random.default_rng(0).normal(size=(40, 3))
        return cls.load(np.hstack([first, first.sum(1, keepdims=True)]).tolist())

    def part(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """(n, length - 1) inputs and (n,) what follows."""
        rows = self.rows[self.parts[part]]
        return rows[:, :-1], rows[:, -1]

    def fit(self, learner: Any) -> Any:
        """Fit a learner on the training part."""
        return learner.fit(self)

    def judge(self, learner: Any, part: Part) -> Judged:
        """The mean squared error."""
        X, y = self.part(part)
        value = (learner.predict(X) - y) ** 2
        samples = pd.DataFrame({"row": np.flatnonzero(self.parts[part]), "value": value})
        return Judged({"mse": float(value.mean())}, samples, 0.0)

    def resampled(self, run: RunLike) -> tuple[int, Callable[[np.ndarray], float]]:
        """Test rows of a run, and their mean."""
        value = run.predictions["value"].to_numpy()
        return len(value), lambda rows: float(value[rows].mean())

    @staticmethod
    def write_predictions(
        path: Path | str,
        learner: Any,
        source: Any,
        *,
        digits: Annotated[int, Knob("after the point", ge=0)] = 6,
    ) -> int:
        """A line a row: the number that follows."""
        found = learner.predict(read(source))
        write_text(Path(path), "".join(f"{value:.{digits}f}\n" for value in found))
        return len(found)

    def describe(self) -> dict[str, Any]:
        """What a run records."""
        rows = {part: int(mask.sum()) for part, mask in self.parts.items()}
        return {
            "name": "numbers", "task": self.name, "target": "the next number",
            "problem": self.problem, "rows": rows, "metric": "mse", "options": self.options,
            "notes": [], "hash": self.data_hash,
        }  # fmt: skip

    def batches(
        self, part: Part, *, model: Any = None, batch_size: int | None = None, seed: int = 0
    ) -> ArrayBatches:
        """`x` (B, length - 1) and `target` (B,)."""
        X, y = self.part(part)
        tensors = {"x": torch.from_numpy(X).float(), "target": torch.from_numpy(y).float()}
        return ArrayBatches(tensors, batch_size or 8, seed=seed)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Squared error."""
        return nn.functional.mse_loss(model(x=batch["x"]), batch["target"])
