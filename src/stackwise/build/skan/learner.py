"""S-KAN as estimators on tables; how they choose is in `choosing`."""

import warnings
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, cast

import numpy as np
from torch import nn

from stackwise.build.skan.bases import FAMILIES, basis
from stackwise.build.skan.choosing import ChoosesFamilies, selection_knobs
from stackwise.build.skan.network import SKAN
from stackwise.build.skan.selectable import SelectableNetwork
from stackwise.catalog import Knob, learner
from stackwise.learning.memory import refuse_beyond
from stackwise.tasks.labelled.counted import CountedRows
from stackwise.tasks.table.estimators.learner import (
    NetworkRows,
    TableClassifier,
    TableLearner,
    TableRegressor,
)
from stackwise.tasks.table.features.contract import TableArrays

VALUES = 6
"""How many times a training step holds the basis values of a row, forward and backward."""
COPIES = 5
"""How many times training holds the coefficients: with gradient, two moments and the best."""
MOST_BYTES = 4 * 2**30
SMALL: dict[str, Any] = {"weight_decay": 0.1, "patience": 16}
"""Of every preset: without them more epochs fit the rows of a small table, and lose on others."""

CARD: dict[str, Any] = {
    "title": "A Kolmogorov-Arnold network that chooses its activation families",
    "paper": "2408.08338",
    "cost": "trains a network of several curves an edge, and prunes it",
    "training": {
        "lr": 1e-2, "schedule": "cosine", "preprocess": "standard", "patience": None,
    },
    "presets": {
        "quick": SMALL | {"max_epochs": 40, "race": 0.25},
        "standard": SMALL,
        "best": SMALL | {"pool": list(FAMILIES), "hidden": [32], "max_epochs": 300},
    },
    "verified": "tests/build/test_skan.py",
}  # fmt: skip


class OutsideRange(CountedRows):
    """Numbers beyond those of training; `counts` has the rows by feature."""

    what = "numbers outside of the range of training, where edge functions flatten"


class SKANKnobs(ChoosesFamilies, TableLearner):
    """The knobs and the network that the classifier and the regressor share."""

    kind: ClassVar[type[SelectableNetwork]] = SKAN

    def __init__(
        self,
        *,
        hidden: Annotated[Sequence[int], Knob("nodes of each hidden layer")] = (16,),
    ) -> None:
        """A network of learnable edge functions whose families are chosen."""

    def _check_memory(self, rows: NetworkRows) -> None:
        """Refuse steps that would not fit: a row has some basis values of each family for each
        number and one for each category, and each input has coefficients.

        Raises:
            DataError: the sentence says which batches would fit.
        """
        hot = sum(rows.cardinalities)
        inputs = rows.n_numeric + hot
        sizes = sum(basis(f, 1, grid=self.grid, degree=self.degree).size for f in self.pool)
        a_row = 4 * VALUES * (rows.n_numeric * sizes + hot)
        nodes = int(self.hidden[0]) if self.hidden else rows.n_outputs
        weights = 4 * COPIES * inputs * sizes * nodes
        batch = self._batch_size(len(rows))
        fits = max(0, MOST_BYTES - weights) // a_row
        refuse_beyond(
            MOST_BYTES, batch * a_row + weights,
            f"{inputs:,} inputs (categories are one-hot) with {sizes} basis functions each, in a "
            f"step of {batch} rows,",
            f"{MOST_BYTES / 2**30:.2g} GiB",
            f"batch_size={fits} would fit" if fits else "leave columns out or shrink the pool",
        )  # fmt: skip

    def build_network(self, rows: NetworkRows) -> nn.Module:
        """A `SKAN` of the estimator's size, for the range that each number has in training."""
        self._check_memory(rows)
        self.check_choice()
        return SKAN(
            n_numeric=rows.n_numeric, cardinalities=rows.cardinalities, n_outputs=rows.n_outputs,
            ranges=[[float(c.min()), float(c.max())] for c in rows.arrays.numeric.T],
            hidden=[int(n) for n in self.hidden],
            pool=list(self.pool), per=self.per, gate=self.gate, grid=self.grid,
            degree=self.degree, wavelet=self.wavelet,
        )  # fmt: skip

    def transform_columns(self, X: Any) -> TableArrays:
        """Read a table, and warn of numbers outside of the range of training."""
        arrays = super().transform_columns(X)
        limits = np.array(cast(SKAN, self.network_).arguments["ranges"], dtype=np.float32).reshape(
            -1, 2
        )
        out = (arrays.numeric < limits[:, 0]) | (arrays.numeric > limits[:, 1])
        counts = dict(zip(self.contract_.numeric_names, out.sum(0).tolist(), strict=True))
        if out.any():
            warnings.warn(OutsideRange({n: c for n, c in counts.items() if c}), stacklevel=2)
        return arrays


@learner("skan", problem="classification", **CARD)
class SKANClassifier(SKANKnobs, TableClassifier):
    """Train a network of edge functions, choose their families on validation rows, and prune."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (selection_knobs, *TableClassifier.shared_knobs)


@learner("skan", problem="regression", **CARD)
class SKANRegressor(SKANKnobs, TableRegressor):
    """Train a network of edge functions, choose their families on validation rows, and prune."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (selection_knobs, *TableRegressor.shared_knobs)
