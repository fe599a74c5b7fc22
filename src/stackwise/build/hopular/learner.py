"""Hopular as estimators: their knobs are the configuration of the method."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.build.hopular.limits import check_size
from stackwise.build.hopular.masking import Masking
from stackwise.build.hopular.network import Hopular
from stackwise.build.hopular.rule import Followed, HopularRule
from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError, ModelError
from stackwise.learning.trainable import Trainable
from stackwise.tasks.table.estimators.learner import (
    NetworkRows,
    TableClassifier,
    TableLearner,
    TableRegressor,
)
from stackwise.tasks.table.reading.vocabulary import Vocabulary
from stackwise.training.batches import ArrayBatches
from stackwise.training.phases import Phase, Trained
from stackwise.training.rules import Rule

CARD: dict[str, Any] = {
    "title": "A network that looks similar training rows up",
    "paper": "2206.00664",
    "cost": "looks at all training rows for every prediction",
    "verified": "tests/build/test_hopular_parity.py",
    "most_rows": 2000,
    "training": {
        "lr": 1e-2, "weight_decay": 0.1, "schedule": "cosine", "warmup": 0.05, "max_epochs": 500,
        "patience": None, "preprocess": "standard",
    },
    "presets": {
        "quick": {"feature_dim": 16, "heads": 4, "blocks": 2, "max_epochs": 60, "lr": 0.02,
                  "memory_size": 300},
        "standard": {},
        "best": {"blocks": 8, "max_epochs": 2000, "follow_share": 0.02},
    },
}  # fmt: skip

FULL_BATCH = 512
"""Rows of a step at most where the batch size is `auto`; smaller tables go in whole."""
SAMPLE = 256
"""Rows on which the error of the nearest patterns is measured."""


class HopularKnobs(TableLearner):
    """The knobs and the network that the classifier and the regressor share."""

    # a step looks at all rows of a small table: it teaches, and costs, as much as many of others
    floor: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        *,
        blocks: Annotated[int, Knob("blocks", ge=1, le=64, search=(1, 6))] = 4,
        heads: Annotated[int, Knob("heads of a lookup", ge=1, le=256, search=(2, 8))] = 8,
        feature_dim: Annotated[
            int, Knob("numbers of an embedded attribute", ge=1, le=1024, log=True, search=(8, 32))
        ] = 32,
        scaling: Annotated[
            float, Knob("how few rows a lookup takes from", ge=0, search=(0.5, 10.0))
        ] = 1.0,
        dropout: Annotated[
            Sequence[float], Knob("of attributes, of lookups' weights, before the answer")
        ] = (0.1, 0.1, 0.1),
        noise: Annotated[
            float, Knob("probability that an attribute is selected", ge=0, le=1)
        ] = 0.15,
        mask: Annotated[float, Knob("probability that a selected one is masked", ge=0, le=1)] = 0.8,
        replace: Annotated[
            float, Knob("probability that a selected one is replaced", ge=0, le=1)
        ] = 0.1,
        mix: Annotated[
            Sequence[float], Knob("weight of the hidden attributes' loss, first and last")
        ] = (1.0, 0.0),
        follow_share: Annotated[
            float, Knob("how far slow weights go towards the fast ones", gt=0, le=1)
        ] = 0.05,
        follow_every: Annotated[int, Knob("steps between these", ge=1)] = 1,
        pull_back: Annotated[
            bool, Knob("fast weights go back to the slow ones (Lookahead)")
        ] = False,
        memory: Annotated[
            Literal["exact", "chunked", "nearest"],
            Knob("all rows at once, the same in stretches, or the nearest alone"),
        ] = "exact",
        neighbours: Annotated[int, Knob("rows that `nearest` looks at", ge=1)] = 256,
        memory_size: Annotated[
            int | None, Knob("stored rows that a training step looks at; none is all", ge=2)
        ] = None,
        max_rows_exact: Annotated[int, Knob("most training rows of memory=exact", ge=2)] = 10_000,
        max_vocab: Annotated[
            int, Knob("categories of a column; rarer ones become one more", ge=2)
        ] = 128,
        memory_limit: Annotated[
            float, Knob("GiB that training may take; more is refused beforehand", gt=0)
        ] = 8.0,
        sample_lookup: Annotated[bool, Knob("look similar training rows up")] = True,
        feature_lookup: Annotated[bool, Knob("look the row's own attributes up")] = True,
    ) -> None:
        """A network whose blocks look up training rows and related attributes."""

    def _contract_options(self) -> dict[str, Any]:
        return {
            **super()._contract_options(),
            "keep_missing": True,
            "vocabulary": Vocabulary(max_levels=self.max_vocab),
        }

    def build_network(self, rows: NetworkRows) -> nn.Module:
        """A `Hopular` that remembers the training rows; what would not fit is refused."""
        if len(self.dropout) != 3 or not all(0 <= p < 1 for p in self.dropout):
            raise KnobError(f"dropout must be 3 probabilities below 1, got {list(self.dropout)}")
        if len(self.mix) != 2 or not all(0 <= share <= 1 for share in self.mix):
            raise KnobError(f"mix must be 2 weights from 0 to 1, got {list(self.mix)}")
        if self.mask + self.replace > 1:
            raise KnobError(f"mask + replace must be at most 1, got {self.mask + self.replace:g}")
        check_size(
            len(rows), rows.n_numeric, rows.cardinalities,
            rows.n_outputs if self._by_class else 0, memory=self.memory,
            batch_size=self._batch_size(len(rows)), memory_size=self.memory_size,
            feature_dim=self.feature_dim, heads=self.heads, blocks=self.blocks,
            neighbours=self.neighbours, most_exact=self.max_rows_exact, limit=self.memory_limit,
        )  # fmt: skip
        network = Hopular(
            n_numeric=rows.n_numeric, cardinalities=rows.cardinalities,
            n_outputs=rows.n_outputs, by_class=self._by_class, memory_rows=len(rows),
            feature_dim=self.feature_dim, heads=self.heads, blocks=self.blocks,
            scaling=self.scaling, dropout=self.dropout,
            memory="full" if self.memory == "exact" else self.memory, neighbours=self.neighbours,
            samples=self.sample_lookup, features=self.feature_lookup,
        )  # fmt: skip
        return network.remember(
            torch.as_tensor(rows.arrays.numeric), torch.as_tensor(rows.arrays.categorical),
            torch.as_tensor(rows.target),
        )  # fmt: skip

    def build_batches(
        self, tensors: dict[str, torch.Tensor], batch_size: int, seed: int
    ) -> ArrayBatches:
        """Batches of rows that know which stored row they are."""
        rows = torch.arange(len(tensors["target"]))
        return ArrayBatches(tensors | {"row": rows}, batch_size=batch_size, seed=seed)

    def build_rule(self, **watched: Any) -> Rule:
        """LAMB on hidden attributes and the target, followed by slow weights."""
        first, last = self.mix
        return HopularRule(
            masking=Masking(self.noise, self.mask, self.replace), mix=(first, last),
            memory_size=self.memory_size, follow_every=self.follow_every,
            follow_share=self.follow_share, pull_back=self.pull_back, **self.rule_options(),
            **watched,
        )  # fmt: skip

    def train(self, network: nn.Module, phases: list[Phase]) -> Trained:
        """Train the network and the slow one that follows it; the slow one is what was learned."""
        trained = super().train(Followed(cast(Hopular, network)), phases)
        slow = cast(Hopular, cast(Followed, trained.model).slow)
        trained.model = slow.requires_grad_(True).eval()
        if self.memory == "nearest" and self.neighbours < len(slow.memory_target):
            self._tell_error(slow)
        return trained

    def trainable(self, data: Any, **options: Any) -> Trainable:
        """Refused: a transform would train rows that see themselves in the memory.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            "a Hopular network learns with its own rows left out of its memory, which transforms "
            "do not know; they take other learners"
        )

    def lookups(self, X: Any, *, top: int = 10) -> dict[str, np.ndarray]:
        """Which training rows a prediction stands on.

        Args:
            top: rows to name, those of the largest weight.

        Returns:
            `rows` (n, blocks, top) places among the training rows, and `weights`, of the same
            shape, how much is taken from each (mean over heads; all rows together 1).
        """
        check_is_fitted(self, "network_")
        arrays = self.transform_columns(X)
        network = cast(Hopular, self.network_)
        count = min(top, len(network.memory_target))
        rows, weights = [], []
        for start in range(0, len(arrays), 64):
            part = slice(start, start + 64)
            found = network.lookups(
                torch.as_tensor(arrays.numeric[part]), torch.as_tensor(arrays.categorical[part])
            )
            best = [taken.topk(count, dim=1) for taken in found]
            rows.append(torch.stack([item.indices for item in best], 1))
            weights.append(torch.stack([item.values for item in best], 1))
        return {"rows": torch.cat(rows).numpy(), "weights": torch.cat(weights).numpy()}

    @torch.no_grad()
    def _tell_error(self, network: Hopular) -> None:
        """Measure how far answers by the nearest rows are from those by all, and say so."""
        numeric, codes = network.memory_numeric[:SAMPLE], network.memory_categorical[:SAMPLE]
        near = network(numeric, codes)
        network.how = "chunked"
        exact = network(numeric, codes)
        network.how = "nearest"
        self.memory_error_ = float((near - exact).abs().max())
        unit = "logits" if self._by_class else "standard deviations of the target"
        self.notes_.append(
            f"answers by the {self.neighbours} nearest rows differ by at most "
            f"{self.memory_error_:.2g} {unit} from those by all, on {len(numeric)} training rows"
        )

    def _write(self, folder: Path) -> dict[str, Any]:
        return super()._write(folder) | {"memory_error": getattr(self, "memory_error_", None)}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        if record.get("memory_error") is not None:
            self.memory_error_ = record["memory_error"]

    def _batch_size(self, rows: int) -> int:
        return min(rows, FULL_BATCH) if self.batch_size == "auto" else int(self.batch_size)


@learner("hopular", problem="classification", **CARD)
class HopularClassifier(HopularKnobs, TableClassifier):
    """Keep the training set as a memory and look similar rows up in each layer; cross-entropy."""


@learner("hopular", problem="regression", **CARD)
class HopularRegressor(HopularKnobs, TableRegressor):
    """Keep the training set as a memory and look similar rows up in each layer; squared error."""
