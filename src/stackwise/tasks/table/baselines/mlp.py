"""A plain multi-layer perceptron on a table: what a neural method has to beat.

    x <- Dropout(ReLU(W x + b)),  n_blocks times;  output = W x + b

on scaled numbers and one-hot categories, without normalisation or residuals: the base network of
arXiv 2410.24210, with the learning rate that suits it rather than the one that suits an ensemble.
"""

from itertools import pairwise
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from stackwise.catalog import Knob, baseline
from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.one_hot import one_hot
from stackwise.tasks.table.estimators.learner import (
    NetworkRows,
    TableClassifier,
    TableLearner,
    TableRegressor,
)


@keeps_arguments
class MLP(nn.Module):
    """Linear layers with ReLU and dropout: x <- Dropout(ReLU(W x + b)), then a linear head.

    Args:
        n_numeric: numeric features.
        cardinalities: codes of each categorical feature; each becomes that many inputs, and the
            code beyond them (never seen in training) is all zeros.
        n_outputs: outputs.
        width: units of a layer.
        n_blocks: layers before the head.
        dropout: probability that a unit is dropped in training.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        n_numeric: int,
        cardinalities: list[int],
        n_outputs: int,
        width: int = 256,
        n_blocks: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.cardinalities = list(cardinalities)
        widths = [n_numeric + sum(self.cardinalities), *[width] * n_blocks]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout))
            for before, after in pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], n_outputs)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """(B, n_numeric) float32 and (B, n_categorical) int64 -> (B, n_outputs)."""
        x = torch.cat([numeric, one_hot(categorical, self.cardinalities)], dim=1)
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.head(x)
        return output


_MLP: dict[str, Any] = {
    "title": "Plain MLP",
    "training": {"lr": 5e-4, "weight_decay": 1e-4},
    "presets": {
        "quick": {"max_epochs": 40, "patience": 8},
        "standard": {},
        "best": {
            "width": 512,
            "n_blocks": 4,
            "max_epochs": 300,
            "patience": 32,
            "lr": 3e-4,
        },
    },
}


class MLPKnobs(TableLearner):
    """The knobs and the network that the classifier and the regressor share."""

    def __init__(
        self,
        *,
        width: Annotated[
            int, Knob("units of a layer", ge=1, le=16384, log=True, search=(64, 1024))
        ] = 256,
        n_blocks: Annotated[int, Knob("layers before the head", ge=1, le=64, search=(1, 6))] = 3,
        dropout: Annotated[
            float, Knob("probability that a unit is dropped", ge=0, lt=1, search=(0.0, 0.5))
        ] = 0.1,
    ) -> None:
        """A plain MLP."""

    def build_network(self, rows: NetworkRows) -> nn.Module:
        """An `MLP` of the estimator's size."""
        return MLP(
            n_numeric=rows.n_numeric, cardinalities=rows.cardinalities, n_outputs=rows.n_outputs,
            width=self.width, n_blocks=self.n_blocks, dropout=self.dropout,
        )  # fmt: skip


@baseline("mlp", problem="regression", **_MLP)
class MLPRegressor(MLPKnobs, TableRegressor):
    """A plain multi-layer perceptron on scaled numbers and one-hot categories."""


@baseline("mlp", problem="classification", **_MLP)
class MLPClassifier(MLPKnobs, TableClassifier):
    """A plain multi-layer perceptron on scaled numbers and one-hot categories."""
