"""TabM as estimators: their knobs are the configuration of the method."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
import torch
from torch import nn

from stackwise.build.tabm.network import TabM
from stackwise.build.tabm.precision import bfloat16_is_faster
from stackwise.catalog import Knob, learner
from stackwise.errors import DataError
from stackwise.layers.numeric_embeddings import compute_bins
from stackwise.tasks.table.estimators.learner import (
    NetworkRows,
    TableClassifier,
    TableLearner,
    TableRegressor,
)
from stackwise.training.batches import ArrayBatches

CARD: dict[str, Any] = {
    "title": "An ensemble of MLPs in one network",
    "paper": "2410.24210",
    "cost": "trains one network of k heads; predicts with all of them",
    "training": {"lr": 2e-3, "weight_decay": 3e-4},
    "presets": {
        "quick": {"k": 16, "width": 256, "max_epochs": 20, "patience": 6},
        "standard": {},
        "best": {"num_embedding": "piecewise", "max_epochs": 300, "share_batches": False},
    },
    "variants": {"": {}, "piecewise": {"num_embedding": "piecewise"}},
    "verified": "tests/build/test_tabm_parity.py",
}

LEAST_WIDTH = 64
"""Narrower networks gain nothing from bfloat16."""


class TabMKnobs(TableLearner):
    """The knobs and the network that the classifier and the regressor share."""

    def __init__(
        self,
        *,
        k: Annotated[int, Knob("members of the ensemble", ge=1, le=1024)] = 32,
        variant: Annotated[
            Literal["tabm", "mini", "packed", "naive", "bad"],
            Knob("what the members share: almost all (tabm, mini) or nothing (packed)"),
        ] = "tabm",
        width: Annotated[
            int, Knob("units of a layer", ge=1, le=16384, log=True, search=(64, 1024))
        ] = 512,
        depth: Annotated[
            int | None, Knob("layers; none is 3, or 2 with embeddings", ge=1, search=(1, 5))
        ] = None,
        dropout: Annotated[
            float, Knob("probability that a unit is dropped", ge=0, lt=1, search=(0.0, 0.5))
        ] = 0.1,
        num_embedding: Annotated[
            Literal["piecewise", "periodic", "periodic-lite", "linear-relu"] | None,
            Knob("how numbers are embedded", search=("none", "piecewise")),
        ] = None,
        bins_from: Annotated[
            Literal["quantiles", "tree"], Knob("where piecewise bins come from")
        ] = "quantiles",
        n_bins: Annotated[int, Knob("most bins a number", ge=2, search=(2, 128))] = 48,
        d_embedding: Annotated[int, Knob("width of an embedded number", ge=1, search=(8, 32))] = 16,
        n_frequencies: Annotated[int, Knob("frequencies of periodic embeddings", ge=1)] = 48,
        frequency_scale: Annotated[
            float, Knob("spread of the first frequencies", gt=0, log=True, search=(0.01, 10.0))
        ] = 0.01,
        share_batches: Annotated[
            bool, Knob("all members see the same rows in a step; false costs k embeddings")
        ] = True,
    ) -> None:
        """An ensemble of k MLPs in one network."""

    def _bins(self, rows: NetworkRows) -> list[list[float]] | None:
        """The bins of piecewise embeddings, found on the training rows, after their scaling."""
        if self.num_embedding != "piecewise" or not rows.n_numeric:
            return None
        wanted = min(self.n_bins, len(rows) - 1)
        if wanted < 2:
            raise DataError(f"piecewise embeddings need at least 3 rows, got {len(rows)}")
        return compute_bins(
            rows.arrays.numeric, wanted, target=rows.target if self.bins_from == "tree" else None,
            classes=self._by_class, seed=self.seed_,
        )  # fmt: skip

    def build_network(self, rows: NetworkRows) -> nn.Module:
        """A `TabM` of the estimator's size."""
        return TabM(
            n_numeric=rows.n_numeric, cardinalities=rows.cardinalities,
            n_outputs=rows.n_outputs, k=self.k, variant=self.variant, width=self.width,
            depth=self.depth, dropout=self.dropout, num_embedding=self.num_embedding,
            bins=self._bins(rows), d_embedding=self.d_embedding, n_frequencies=self.n_frequencies,
            frequency_scale=self.frequency_scale,
        )  # fmt: skip

    def build_batches(
        self, tensors: dict[str, torch.Tensor], batch_size: int, seed: int
    ) -> ArrayBatches:
        """Batches of B rows, or of B rows for each member in its own order."""
        orders = 1 if self.share_batches else self.k
        return ArrayBatches(tensors, batch_size, seed=seed, orders=orders)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Matrices, adapters and the V of piecewise embeddings decay, as in the authors' code."""
        if self.num_embedding == "linear-relu" and name.startswith("embedding."):
            return False
        return not name.endswith(("bias", "frequencies", "embedding.linear.weight"))

    def training_options(self) -> dict[str, Any]:
        """bfloat16 on a CPU that multiplies it faster: at equal error (benchmarks)."""
        options = super().training_options()
        on_cpu = self.device == "cpu" or (self.device == "auto" and not torch.cuda.is_available())
        if self.precision == "auto" and on_cpu and self.width >= LEAST_WIDTH:
            options["precision"] = "bfloat16" if bfloat16_is_faster() else "auto"
        return options

    def select_members(self, X: Any, y: Any, *, how: Literal["greedy", "best"] = "greedy") -> Self:
        """A copy of this fitted estimator with the members that do best on (X, y).

        Args:
            how: `best` keeps the single best member; `greedy` begins with it and adds the member
                that improves the mean prediction most, until none does.
        """
        members = self.predict_members(X)
        truth = self._encode(self._read_target(y))
        chosen: list[int] = []
        reached = np.inf
        while len(chosen) < members.shape[1]:
            left = [i for i in range(members.shape[1]) if i not in chosen]
            scores = [self._loss_of(members[:, [*chosen, i]].mean(1), truth) for i in left]
            if min(scores) >= reached:
                break
            reached = min(scores)
            chosen.append(left[int(np.argmin(scores))])
            if how == "best":
                break
        return self.keep_members(chosen)

    def keep_members(self, members: Sequence[int]) -> Self:
        """A copy of this fitted estimator that predicts with these members alone."""
        return self.with_network(cast(TabM, self.network_).prune(members))

    def uncertainty(self, X: Any) -> np.ndarray:
        """(n,) how far the members are apart: standard deviation of values or probabilities.

        For classes it is the deviation of the probability of the predicted class.
        """
        members = self.predict_members(X)
        if not self._by_class:
            return np.asarray(members[..., 0].std(1))
        top = members.mean(1).argmax(1)
        return np.asarray(members[np.arange(len(top)), :, top].std(1))

    def _loss_of(self, mean: np.ndarray, truth: np.ndarray) -> float:
        if not self._by_class:
            return float(np.square(mean[:, 0] - truth).mean())
        return float(-np.log(np.clip(mean[np.arange(len(truth)), truth], 1e-12, None)).mean())


@learner("tabm", problem="classification", **CARD)
class TabMClassifier(TabMKnobs, TableClassifier):
    """Train k MLPs that share almost all weights as one network; average their probabilities."""


@learner("tabm", problem="regression", **CARD)
class TabMRegressor(TabMKnobs, TableRegressor):
    """Train k MLPs that share almost all weights as one network; average their predictions."""
