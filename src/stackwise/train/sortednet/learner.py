"""The estimators on tables and pictures: one network that is fitted once and cut to any budget.

model = SortedNetClassifier().fit(X, y)
model.submodels(X_test, y_test)          # a table: sizes, parameters, multiply-adds, ms, score
small = model.extract(max_macs=1e4)      # the largest one within it, a plain estimator
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, cast

import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError
from stackwise.files import read_tensors, write_tensors
from stackwise.learning.labelled_network import LabelledNetwork
from stackwise.tasks.table.estimators.learner import (
    NetworkRows,
    TableClassifier,
    TableLearner,
    TableRegressor,
)
from stackwise.train.sortednet.costs import select, table_of_submodels
from stackwise.train.sortednet.extracting import extract
from stackwise.train.sortednet.knobs import choice_of, drawing_of, sorting_knobs, spread_of
from stackwise.train.sortednet.networks import RowMLP
from stackwise.train.sortednet.reading import Axes
from stackwise.train.sortednet.rule import SortedRule
from stackwise.train.sortednet.spaces import SortedSpace
from stackwise.train.sortednet.statistics import Statistics, batch_norms
from stackwise.training.phases import Phase, Trained
from stackwise.training.rules import Backprop, Rule

CARD: dict[str, Any] = {
    "title": "One network that is trained to be cut to any size",
    "paper": "2309.00255",
    "cost": "about one training for all sizes; the whole network learns a little less",
}
WIDTHS = (0.125, 0.25, 0.5, 1.0)  # not a list: scikit-learn wants defaults that stay
FULL = 0.25
"""How often the whole network is in a step: under the paper's uniform P it sees one of K updates
and, with few steps, pays for it (evidence)."""
STATISTICS = "statistics.safetensors"


class SortedNetwork(LabelledNetwork):
    """What the estimators on tables and on pictures share.

    Fitted: `network_`, the whole network; `space_`, its sub-models; `statistics_`, those of batch
    normalisation of each.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (sorting_knobs,)

    space_: SortedSpace
    statistics_: Statistics

    def example_inputs(self) -> dict[str, torch.Tensor]:
        """What the network is called with, of one made-up sample."""
        raise NotImplementedError

    def build_rule(self, **watched: Any) -> Rule:
        """Learning through sub-models."""
        return SortedRule(
            Backprop(**self.rule_options(), **watched), choice_of(self), drawing_of(self),
            seed=self.seed_, spread=spread_of(self), running=self.follows_statistics(),
        )  # fmt: skip

    def build_phases(self, batches: Any, held: Any, watched: dict[str, Any]) -> list[Phase]:
        """One phase; statistics of batch normalisation are taken over its batches."""
        phases = super().build_phases(batches, held, watched)
        cast(SortedRule, phases[0].rule).batches = batches
        return phases

    def follows_statistics(self) -> bool:
        """Whether statistics of batch normalisation are followed in training."""
        return False

    def train(self, network: nn.Module, phases: list[Phase]) -> Trained:
        """Train, and settle the statistics of every sub-model."""
        trained = super().train(network, phases)
        rule = cast(SortedRule, phases[0].rule)
        axes = Axes.of(trained.model, spread=spread_of(self))
        self.keep_submodels(choice_of(self).space(axes.extents), rule.statistics)
        if not batch_norms(trained.model):
            return trained
        for sizes in self.space_.sizes:
            if not rule.running:
                self.statistics_.measure(axes, sizes, phases[0].batches.epoch(0), rule.inner.loss)
        self.statistics_.put(trained.model, axes.full)
        return trained

    def keep_submodels(self, space: SortedSpace, statistics: Statistics) -> None:
        """Take over what the network can be cut to."""
        self.space_, self.statistics_ = space, statistics

    def submodels(self, X: Any = None, y: Any = None, *, latency: bool = True) -> pd.DataFrame:
        """A row a sub-model: its sizes, `parameters`, `multiply_adds` and `milliseconds` of one
        sample, and with (X, y) the `score`: accuracy, or R2 of numbers.
        """
        check_is_fitted(self, "network_")

        def judge(small: nn.Module, sizes: dict[str, int]) -> float:
            scored: Any = self.with_network(small)
            return float(scored.score(X, y))

        return table_of_submodels(
            self.network_, self.space_, self.example_inputs(), judge=None if y is None else judge,
            statistics=self.statistics_, latency=latency, spread=spread_of(self),
        )  # fmt: skip

    def extract(
        self,
        *,
        max_macs: float | None = None,
        max_params: float | None = None,
        max_latency: float | None = None,
        **sizes: float,
    ) -> Self:
        """A copy whose network is a sub-model, plain and smaller.

        Args:
            max_macs: multiply-adds of a sample at most. max_params: parameters. max_latency:
                milliseconds of a sample, measured here.
            sizes: or its sizes, `width=0.5, depth=2`, in shares or units.

        Raises:
            KnobError: no sub-model is within the budget, or the network has no such sub-model.
        """
        check_is_fitted(self, "network_")
        axes = Axes.of(self.network_, spread=spread_of(self))
        if sizes:
            chosen = axes.checked(sizes)
            if chosen not in self.space_.sizes:
                raise KnobError(
                    f"a sub-model of {chosen} was not trained; submodels() lists those that were"
                )
        else:
            table = self.submodels(latency=max_latency is not None)
            chosen = select(
                table, max_macs=max_macs, max_params=max_params, max_latency=max_latency
            )
        made = self.with_network(
            extract(
                self.network_, chosen, statistics=self.statistics_, spread=spread_of(self)
            )
        )  # fmt: skip
        made.keep_submodels(self.space_.within(chosen), self.statistics_)
        return made

    def _write(self, folder: Path) -> dict[str, Any]:
        if self.statistics_.sets:
            write_tensors(folder / STATISTICS, self.statistics_.tensors())
        return super()._write(folder) | {"submodels": kept_space(self.space_)}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        path = folder / STATISTICS
        tensors = read_tensors(path) if path.is_file() else {}
        self.keep_submodels(space_back(record["submodels"]), Statistics.of_tensors(tensors))


def kept_space(space: SortedSpace) -> dict[str, Any]:
    """A space as JSON."""
    return {"sizes": list(space.sizes), "probabilities": list(space.probabilities)}


def space_back(kept: Mapping[str, Any]) -> SortedSpace:
    """The inverse of `kept_space`."""
    sizes = ({str(axis): int(size) for axis, size in one.items()} for one in kept["sizes"])
    return SortedSpace(tuple(sizes), tuple(float(one) for one in kept["probabilities"]))


class SortedTable(SortedNetwork, TableLearner):
    """The knobs and the network that the classifier and the regressor share."""

    def __init__(
        self,
        *,
        width: Annotated[
            int, Knob("numbers of the stream", ge=1, le=16384, log=True, search=(64, 512))
        ] = 128,
        depth: Annotated[int, Knob("blocks", ge=1, le=64, search=(2, 6))] = 4,
        mlp_ratio: Annotated[float, Knob("hidden units of a block over the width", gt=0)] = 1.0,
        dropout: Annotated[
            float, Knob("probability that a number is dropped", ge=0, lt=1, search=(0.0, 0.5))
        ] = 0.0,
    ) -> None:
        """A residual MLP that can be cut."""

    def build_network(self, rows: NetworkRows) -> nn.Module:
        """A `RowMLP` of the estimator's size."""
        return RowMLP(
            n_numeric=rows.n_numeric, cardinalities=rows.cardinalities, n_outputs=rows.n_outputs,
            width=self.width, depth=self.depth, hidden=hidden_of(self), dropout=self.dropout,
        )  # fmt: skip

    def example_inputs(self) -> dict[str, torch.Tensor]:
        """One row of zeros."""
        codes = len(self.contract_.cardinalities)
        return {
            "numeric": torch.zeros(1, self.contract_.n_numeric),
            "categorical": torch.zeros(1, codes, dtype=torch.int64),
        }


def hidden_of(learner: Any) -> int:
    """Hidden units of a block."""
    return max(1, round(learner.mlp_ratio * learner.width))


TABLE: dict[str, Any] = CARD | {
    "training": {"lr": 1e-3, "weight_decay": 1e-4, "widths": WIDTHS, "full_probability": FULL},
    "presets": {
        "quick": {"width": 32, "depth": 2, "max_epochs": 40, "patience": 8, "latency": False},
        "standard": {},
        "best": {"width": 256, "max_epochs": 300, "patience": 32},
    },
}


@learner("sortednet", problem="classification", **TABLE)
class SortedNetClassifier(SortedTable, TableClassifier):
    """Classify rows by a residual MLP of which every truncation is a good network."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (sorting_knobs, *TableClassifier.shared_knobs)


@learner("sortednet", problem="regression", **TABLE)
class SortedNetRegressor(SortedTable, TableRegressor):
    """Predict a number by a residual MLP of which every truncation is a good network."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (sorting_knobs, *TableRegressor.shared_knobs)
