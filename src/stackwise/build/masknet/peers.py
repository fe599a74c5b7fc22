"""What MaskNet is measured against: a DNN and DeepFM on the same fields, in the same training.

    DNN       MLP(V)
    DeepFM    w_0 + sum_i w_i + sum_{i<j} <e_i, e_j> + MLP(V)          (arXiv 1703.04247)

They are no methods of the catalog: the evidence compares with them, and a benchmark may.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.build.masknet.fields import FieldEmbedding
from stackwise.build.masknet.learner import MaskNetClassifier
from stackwise.build.masknet.network import mlp
from stackwise.errors import ModelError
from stackwise.tasks.table.estimators.learner import NetworkRows


class DNN(nn.Module):
    """An MLP on the embeddings of the fields: (B, n_numeric), (B, n_categorical) -> (B, C)."""

    def __init__(
        self,
        *,
        n_numeric: int,
        cardinalities: Sequence[int] = (),
        n_outputs: int = 1,
        widths: Sequence[int] = (128, 128, 128),
        embedding_dim: int = 10,
        dropout: float = 0.0,
        slots: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "n_numeric": n_numeric,
            "cardinalities": list(cardinalities),
            "n_outputs": n_outputs,
            "widths": list(widths),
            "embedding_dim": embedding_dim,
            "dropout": dropout,
            "slots": None if slots is None else list(slots),
        }
        self.embedding = FieldEmbedding(n_numeric, cardinalities, embedding_dim, slots=slots)
        self.mlp = mlp([self.embedding.fields * embedding_dim, *widths], n_outputs, dropout)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """(B, n_numeric) float32 and (B, n_categorical) int64 -> (B, n_outputs)."""
        output: Tensor = self.mlp(self.embedding(numeric, categorical).flatten(1))
        return output


class DeepFM(DNN):
    """A factorisation machine beside a DNN; both read the same embeddings.

    Two logits differ by the machine's value, as if there were one.
    """

    signs: Tensor

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        given = self.arguments
        outputs = given["n_outputs"]
        if outputs > 2:
            raise ModelError(f"DeepFM predicts a number or two classes, not {outputs}")
        self.linear = FieldEmbedding(
            given["n_numeric"], given["cardinalities"], outputs, slots=given["slots"]
        )
        signs = torch.tensor([1.0] if outputs == 1 else [-0.5, 0.5])
        self.register_buffer("signs", signs, persistent=False)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """(B, n_numeric) float32 and (B, n_categorical) int64 -> (B, n_outputs)."""
        fields = self.embedding(numeric, categorical)
        # sum_{i<j} <e_i, e_j> = (|sum_i e_i|^2 - sum_i |e_i|^2) / 2
        pairs = 0.5 * (fields.sum(1).square().sum(1) - fields.square().sum((1, 2)))
        machine = self.linear(numeric, categorical).sum(1) + pairs[:, None] * self.signs
        output: Tensor = machine + self.mlp(fields.flatten(1))
        return output


class DNNClassifier(MaskNetClassifier):
    """A DNN of `blocks` layers of `width` units, with the columns and the training of MaskNet."""

    network = DNN

    def build_network(self, rows: NetworkRows) -> nn.Module:
        """The network of this peer."""
        return self.network(
            n_numeric=rows.n_numeric, cardinalities=rows.cardinalities, n_outputs=rows.n_outputs,
            widths=[self.width] * self.blocks, embedding_dim=self.embedding_dim,
            dropout=self.dropout, slots=rows.contract.slots,
        )  # fmt: skip


class DeepFMClassifier(DNNClassifier):
    """DeepFM, with the columns and the training of MaskNet."""

    network = DeepFM
