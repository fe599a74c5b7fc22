"""The scikit-learn estimators that all neural networks on tables share.

A subclass says which network it builds; the features of the columns are made here, and everything
else is in `stackwise.learning`.

    class Plain(TableRegressor):
        def __init__(self, *, width: Annotated[int, Knob("units of a layer", ge=1)] = 64) -> None:
            "A network of one layer."

        def build_network(self, rows):
            return MLP(n_numeric=rows.n_numeric, cardinalities=rows.cardinalities, ...)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import nn

from stackwise.errors import ModelError
from stackwise.learning.labelled_estimator import held_out_knobs
from stackwise.learning.labelled_network import (
    LabelledNetwork,
    PredictsClasses,
    PredictsNumbers,
)
from stackwise.learning.targets import class_knobs
from stackwise.tasks.table.estimators.estimator import TableEstimator, table_knobs
from stackwise.tasks.table.features.contract import FeatureContract, TableArrays
from stackwise.training.knobs import distillation_knobs, temperature_knobs, training_knobs


class TableNetwork(Protocol):
    """What a network on tables offers. It is decorated by `keeps_arguments`; an ensemble has its
    members' count there under `k`.
    """

    arguments: dict[str, Any]

    def forward(self, numeric: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
        """(B, n_numeric) float32 and (B, n_categorical) int64 -> (B, C) or (B, k, C)."""
        ...


@dataclass(frozen=True)
class NetworkRows:
    """The training rows, as a network is made for them.

    Attributes:
        contract: what was learned about the columns. arrays: the rows as features.
        target: (n,) standardised values, or class codes. n_outputs: of the network.
    """

    contract: FeatureContract
    arrays: TableArrays
    target: np.ndarray
    n_outputs: int

    def __len__(self) -> int:
        return len(self.target)

    @property
    def n_numeric(self) -> int:
        """Numeric features."""
        return self.contract.n_numeric

    @property
    def cardinalities(self) -> list[int]:
        """Codes of each categorical feature."""
        return self.contract.cardinalities


class TableLearner(LabelledNetwork, TableEstimator):
    """A neural network on a table.

    Fitted attributes are those of `TableEstimator` and of `NetworkLearner`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        held_out_knobs, table_knobs, training_knobs, distillation_knobs,
    )  # fmt: skip
    floor: ClassVar[dict[str, Any]] = {"min_steps": 1500}
    exporter: ClassVar[str | None] = "stackwise.tasks.table.estimators.export:export"

    def build_network(self, rows: NetworkRows) -> nn.Module:
        """Make the network, a `TableNetwork`; torch's random state is that of the seed. Subclasses
        define this.
        """
        raise ModelError(f"{type(self).__name__} does not say which network it builds")

    def _network(self, features: TableArrays, target: np.ndarray) -> nn.Module:
        return self.build_network(NetworkRows(self.contract_, features, target, self.n_outputs_))

    def _features(self, samples: Any, *, quietly: bool = False) -> TableArrays:
        return self._quietly(samples) if quietly else self.contract_.transform(samples)

    def _asked(self, X: Any) -> TableArrays:
        return self.transform_columns(X)

    def _inputs(self, features: TableArrays) -> Mapping[str, Any]:
        return inputs_of(features)


class TableRegressor(PredictsNumbers, TableLearner):
    """A neural network that predicts a number from a row of a table."""


class TableClassifier(PredictsClasses, TableLearner):
    """A neural network that predicts a class from a row of a table."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        held_out_knobs, table_knobs, class_knobs, training_knobs, distillation_knobs,
        temperature_knobs,
    )  # fmt: skip


def inputs_of(arrays: TableArrays) -> dict[str, np.ndarray]:
    """What a network on tables is called with."""
    return {"numeric": arrays.numeric, "categorical": arrays.categorical}
