"""A learner that trains a network, and a baseline that looks once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from next_numbers.task import NextNumbers
from stackwise.catalog import Knob, baseline, learner
from stackwise.errors import DataError
from stackwise.files import read_tensors, write_tensors
from stackwise.layers.arguments import keeps_arguments
from stackwise.learning.learner import Learner
from stackwise.learning.network import NetworkLearner
from stackwise.training.phases import Phase
from stackwise.training.rules import Backprop


def task_of(X: Any, y: Any) -> Any:
    """A task, or one made of arrays."""
    if y is None:
        return X
    if not len(X) or len(X) != len(y):
        raise DataError(f"{len(X)} rows and {len(y)} numbers after them teach nothing")
    return NextNumbers.load(np.column_stack([X, y]))


@keeps_arguments
class Adder(nn.Module):
    """Two layers: (B, inputs) -> (B,)."""

    arguments: dict[str, Any]

    def __init__(self, *, inputs: int, width: int = 8) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The next number of each row."""
        found: Tensor = self.blocks(x)[:, 0]
        return found


@learner(
    "adder",
    title="A small network that adds",
    verb="build",
    presets={"quick": {"width": 4, "max_epochs": 3}},
)
class AdderLearner(NetworkLearner):
    """Learn the next number with a small network."""

    tasks: ClassVar[tuple[str, ...]] = ("next-numbers",)

    def __init__(self, *, width: Annotated[int, Knob("hidden units", ge=1)] = 8) -> None:
        """Only the signature counts."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from a loaded task, or from rows and what follows them."""
        task = task_of(X, y)
        self._begin()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_)
            network = Adder(inputs=task.rows.shape[1] - 1, width=self.width)
        rule = Backprop(task.loss, lr=self.lr)
        batches = task.batches("train", seed=self.seed_)
        phases = [Phase("train", rule, batches, self.max_epochs)]
        self.network_ = self.train(network, phases).model.eval()
        return self

    @torch.no_grad()
    def predict(self, X: Any) -> np.ndarray:
        """(n,) numbers."""
        check_is_fitted(self, "network_")
        found: np.ndarray = self.network_(x=torch.as_tensor(X).float()).double().numpy()
        return found

    def _write(self, folder: Path) -> dict[str, Any]:
        write_tensors(folder / "model.safetensors", self.network_.state_dict())
        return {"arguments": self.network_.arguments, "history": self.history_}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.network_ = Adder(**record["arguments"])
        self.network_.load_state_dict(read_tensors(folder / "model.safetensors"))
        self.network_.eval()
        self.history_ = record["history"]


@baseline("last-number", title="The last number again")
class LastNumber(Learner):
    """Say the last number once more."""

    tasks: ClassVar[tuple[str, ...]] = ("next-numbers",)

    def __init__(self, *, times: Annotated[float, Knob("factor")] = 1.0) -> None:
        """Only the signature counts."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Nothing to learn."""
        task_of(X, y)
        self._begin()
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(n,) numbers."""
        check_is_fitted(self, "seed_")
        return self.times * np.asarray(X)[:, -1]
