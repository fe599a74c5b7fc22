"""MaskNet as estimators: their knobs are the configuration of the method."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from torch import nn

from stackwise.build.masknet.memory import check_memory
from stackwise.build.masknet.network import MaskNet
from stackwise.catalog import Knob, learner
from stackwise.errors import DataError
from stackwise.layers.numeric_embeddings import compute_bins
from stackwise.tasks.table.estimators.learner import (
    NetworkRows,
    TableClassifier,
    TableLearner,
    TableRegressor,
)
from stackwise.tasks.table.reading.vocabulary import Vocabulary
from stackwise.training.rules import decays

CARD: dict[str, Any] = {
    "title": "A net that multiplies its layers by masks of the row",
    "paper": "2102.07619",
    "cost": "trains one network",
    "verified": "tests/build/test_masknet_parity.py",
    "training": {"lr": 1e-3, "patience": 8},
    "presets": {
        "quick": {"width": 64, "max_epochs": 20, "patience": 4},
        # the paper's width of 400 fits the validation rows of a small table and loses on others
        "standard": {"weight_decay": 0.1},
        "best": {"width": 400, "blocks": 5, "embedding_dim": 16, "lr": 3e-4, "max_epochs": 200,
                 "patience": 16},
    },
}  # fmt: skip


class MaskNetKnobs(TableLearner):
    """The knobs and the network that the classifier and the regressor share."""

    def __init__(
        self,
        *,
        variant: Annotated[
            Literal["serial", "parallel"], Knob("blocks on blocks, or blocks side by side")
        ] = "serial",
        blocks: Annotated[int, Knob("blocks", ge=1, le=64, search=(1, 5))] = 3,
        width: Annotated[
            int, Knob("units of a block", ge=1, le=16384, log=True, search=(32, 512))
        ] = 128,
        reduction: Annotated[
            float, Knob("hidden units of a mask over its outputs", gt=0, search=(0.5, 3.0))
        ] = 2.0,
        embedding_dim: Annotated[
            int, Knob("numbers of an embedding", ge=1, le=1024, log=True, search=(4, 32))
        ] = 10,
        embedding_norm: Annotated[
            bool, Knob("each field's embedding has a norm; false for few rows a category")
        ] = True,
        hidden_norm: Annotated[bool, Knob("each block has a norm before its ReLU")] = True,
        mask: Annotated[bool, Knob("multiply by masks; false leaves an MLP")] = True,
        dropout: Annotated[
            float, Knob("probability that a unit is dropped", ge=0, lt=1, search=(0.0, 0.5))
        ] = 0.0,
        head: Annotated[Sequence[int], Knob("widths of the parallel net's MLP")] = (128,),
        num_embedding: Annotated[
            Literal["linear", "product", "piecewise"],
            Knob("a number becomes w x + c, w x, or a piecewise linear vector"),
        ] = "linear",
        n_bins: Annotated[int, Knob("most bins a number, for piecewise", ge=2)] = 48,
        max_vocab: Annotated[
            int, Knob("most values of a column with an embedding of their own", ge=1)
        ] = 1_000_000,
        min_count: Annotated[
            int, Knob("rows that a value needs for one", ge=1, log=True, search=(1, 20))
        ] = 1,
        hash_buckets: Annotated[
            int | None, Knob("columns of more values share this many by hash", ge=2)
        ] = None,
        categorical: Annotated[
            list[str] | None, Knob("columns of numbers that are categories")
        ] = None,
        multivalued: Annotated[
            dict[str, str] | None, Knob("columns of several values, and what parts them")
        ] = None,
        memory_limit: Annotated[
            float, Knob("GiB that training may take; more is refused beforehand", gt=0)
        ] = 6.0,
    ) -> None:
        """A feed-forward net whose layers are multiplied by masks of the whole row."""

    def _contract_options(self) -> dict[str, Any]:
        vocabulary = Vocabulary(
            max_levels=self.max_vocab, min_count=self.min_count, hash_buckets=self.hash_buckets,
            ids=True, separators=self.multivalued or {},
        )  # fmt: skip
        return {
            **super()._contract_options(),
            "categorical": self.categorical or [],
            "vocabulary": vocabulary,
        }

    def build_network(self, rows: NetworkRows) -> nn.Module:
        """A `MaskNet` of the estimator's size; what would not fit into memory is refused."""
        given = self._arguments(rows)
        plain = given | {"number_embedding": "linear"}
        check_memory(
            lambda sizes: MaskNet(**plain | {"cardinalities": sizes}),
            rows.cardinalities, len(rows), self._batch_size(len(rows)), self.memory_limit,
        )  # fmt: skip
        return MaskNet(**given)

    def _bins(self, rows: NetworkRows) -> list[list[float]] | None:
        """The bins of piecewise embeddings, found on the training rows."""
        if self.num_embedding != "piecewise" or not rows.n_numeric:
            return None
        wanted = min(self.n_bins, len(rows) - 1)
        if wanted < 2:
            raise DataError(f"piecewise embeddings need at least 3 rows, got {len(rows)}")
        return compute_bins(rows.arrays.numeric, wanted, seed=self.seed_)

    def _arguments(self, rows: NetworkRows) -> dict[str, Any]:
        return {
            "n_numeric": rows.n_numeric,
            "cardinalities": rows.cardinalities,
            "n_outputs": rows.n_outputs,
            "variant": self.variant,
            "blocks": self.blocks,
            "width": self.width,
            "reduction": self.reduction,
            "embedding_dim": self.embedding_dim,
            "embedding_norm": self.embedding_norm,
            "hidden_norm": self.hidden_norm,
            "mask": self.mask,
            "dropout": self.dropout,
            "head": self.head,
            "slots": rows.contract.slots,
            "number_embedding": self.num_embedding,
            "bins": self._bins(rows),
        }

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Embeddings and matrices decay; norms and biases do not."""
        return decays(name, parameter) and "norm" not in name and not name.endswith("scale")


@learner("masknet", problem="classification", **CARD)
class MaskNetClassifier(MaskNetKnobs, TableClassifier):
    """Multiply each layer of a feed-forward net by a mask of the whole row; log loss."""


@learner("masknet", problem="regression", **CARD)
class MaskNetRegressor(MaskNetKnobs, TableRegressor):
    """Multiply each layer of a feed-forward net by a mask of the whole row; squared error."""
