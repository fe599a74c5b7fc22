"""The estimators: a classifier whose embedding may be cut.

model = MatryoshkaClassifier().fit(X, y)
model.transform(X, dim=16)              (n, 16) codes
model.predict(X, dim=16)                by the head of that size
model.predict_adaptive(X)               by the first that is sure, and which it was
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import nn

from stackwise.catalog import learner
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNNClassifier
from stackwise.tasks.images.estimators.learner import ImageRows
from stackwise.tasks.images.writing import picture_blocks
from stackwise.tasks.table.baselines.mlp import MLPKnobs
from stackwise.tasks.table.estimators.learner import NetworkRows, TableClassifier
from stackwise.tasks.table.predictions import texts_of
from stackwise.tasks.table.source import read_chunks
from stackwise.train.matryoshka.nested import NestedClassifier, nested_knobs, size_knobs
from stackwise.train.matryoshka.network import NestedPictures, NestedRows
from stackwise.train.matryoshka.rule import nesting_knobs

CARD: dict[str, Any] = {
    "title": "Embeddings whose first numbers are embeddings too",
    "paper": "2205.13147",
    "cost": "trains as one classifier does, and answers at every size",
    "verified": "tests/train/test_matryoshka_parity.py",
}


@learner(
    "matryoshka",
    problem="classification",
    presets={
        "quick": {"width": 12, "embed_dim": 32, "max_epochs": 12},
        "standard": {},
        "best": {"width": 48, "n_blocks": 3, "embed_dim": 256, "max_epochs": 120},
    },
    names={
        "MatryoshkaHead": "stackwise.train.matryoshka.heads:MatryoshkaHead",
        "MatryoshkaLoss": "stackwise.train.matryoshka.loss:MatryoshkaLoss",
        "adaptive_search": "stackwise.train.matryoshka.retrieval:adaptive_search",
        "funnel_search": "stackwise.train.matryoshka.retrieval:funnel_search",
    },
    **CARD,
)  # fmt: skip
class MatryoshkaClassifier(NestedClassifier, ResidualCNNClassifier):
    """Classify pictures by an embedding whose first 8, 16, 32, ... numbers serve by themselves."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        size_knobs, nested_knobs, nesting_knobs, *ResidualCNNClassifier.shared_knobs,
    )  # fmt: skip

    def build_network(self, rows: ImageRows) -> nn.Module:
        """A `NestedPictures` of the estimator's size."""
        return NestedPictures(
            channels=rows.channels, n_outputs=rows.n_outputs, width=self.width,
            n_blocks=self.n_blocks, dropout=self.dropout, embed_dim=self.embed_dim,
            dims=self.dims, tied=self.tied,
        )  # fmt: skip

    def read_source(self, source: str | Path) -> Iterator[tuple[Any, np.ndarray, int]]:
        """The pictures of a folder, a file or a named set."""
        for names, pictures, good in picture_blocks(self, source):
            yield pictures, good, len(names)


@learner(
    "matryoshka",
    problem="classification",
    training={"lr": 5e-4, "weight_decay": 1e-4},
    presets={
        "quick": {"width": 64, "embed_dim": 32, "max_epochs": 40, "patience": 8},
        "standard": {},
        "best": {"width": 512, "n_blocks": 4, "embed_dim": 256, "max_epochs": 300, "patience": 32,
                 "lr": 3e-4},
    },
    **CARD,
)  # fmt: skip
class MatryoshkaTableClassifier(NestedClassifier, MLPKnobs, TableClassifier):
    """Classify rows of a table by an embedding whose first numbers serve by themselves."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        size_knobs, nested_knobs, nesting_knobs, *TableClassifier.shared_knobs,
    )  # fmt: skip

    def build_network(self, rows: NetworkRows) -> nn.Module:
        """A `NestedRows` of the estimator's size."""
        return NestedRows(
            n_numeric=rows.n_numeric, cardinalities=rows.cardinalities, n_outputs=rows.n_outputs,
            width=self.width, n_blocks=self.n_blocks, dropout=self.dropout,
            embed_dim=self.embed_dim, dims=self.dims, tied=self.tied,
        )  # fmt: skip

    def read_source(self, source: str | Path) -> Iterator[tuple[Any, np.ndarray, int]]:
        """The rows of a file, in pieces."""
        for rows in read_chunks(source, as_text=texts_of(self)):
            yield rows, np.arange(len(rows)), len(rows)
