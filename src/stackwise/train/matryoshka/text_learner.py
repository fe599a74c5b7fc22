"""The estimator on texts: the mean of an encoder's tokens is the embedding.

MatryoshkaTextClassifier(model="minilm", blocks=1).fit(texts, y).transform(new, dim=48)
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import numpy as np
from torch import Tensor, nn

from stackwise.catalog import Knob, learner
from stackwise.file_bounds import within
from stackwise.files import read_tensors, write_tensors
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.models import open_model, save_model
from stackwise.tasks.labels.baselines.transformer import TransformerClassifier
from stackwise.tasks.labels.estimators.learner import TextRows
from stackwise.tasks.labels.writing import text_blocks
from stackwise.train.matryoshka.embedding import embeddings_of
from stackwise.train.matryoshka.freezing import freeze
from stackwise.train.matryoshka.heads import MatryoshkaHead
from stackwise.train.matryoshka.learner import CARD
from stackwise.train.matryoshka.nested import NestedClassifier, nested_knobs
from stackwise.train.matryoshka.network import Nested
from stackwise.train.matryoshka.rule import nesting_knobs


def blocks_knobs(
    *,
    blocks: Annotated[
        int | None, Knob("last blocks that learn, with what follows them; none: everything", ge=0)
    ] = None,
) -> None:
    """How much of an encoder learns."""


class MeanTokens(nn.Module):
    """An encoder or decoder of transformers that gives the mean of its tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Tensor:
        """`input_ids` and `attention_mask` (B, T) -> (B, width)."""
        return embeddings_of(self.model, inputs, "mean")[0]


class NestedTexts(Nested):
    """The mean of the tokens of `model`, and nested heads on it."""

    encoder: MeanTokens

    def __init__(self, model: nn.Module, head: MatryoshkaHead) -> None:
        super().__init__(MeanTokens(model), head)


@learner(
    "matryoshka",
    problem="classification",
    presets={
        "quick": {"layers": 1, "width": 64, "heads": 2, "max_epochs": 8},
        "standard": {},
        "best": {"layers": 4, "width": 256, "max_epochs": 40, "patience": 8},
    },
    **CARD,
)  # fmt: skip
class MatryoshkaTextClassifier(NestedClassifier, TransformerClassifier):
    """Classify texts by the mean of an encoder's tokens, whose first numbers serve by themselves.

    The encoder is a small one from scratch, or a pretrained one (`model="minilm"`); what is kept of
    it loads in plain transformers (`model/`), and its config says the sizes.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        nested_knobs, nesting_knobs, blocks_knobs, *TransformerClassifier.shared_knobs,
    )  # fmt: skip

    def build_network(self, rows: TextRows) -> nn.Module:
        """A `NestedTexts` around the encoder, whose width is the size of the embedding."""
        model = self.begins_with(rows).base_model
        head = MatryoshkaHead(
            model.config.hidden_size, rows.n_outputs, dims=self.dims, tied=self.tied
        )
        model.config.matryoshka_dimensions = list(head.dims)
        network = NestedTexts(model, head)
        freeze(network.encoder.model, self.blocks)
        return network

    def _fit_parts(self, train: LabelledRows, held: LabelledRows | None) -> None:
        super()._fit_parts(train, held)
        self.network_.requires_grad_(True)

    def read_source(self, source: str | Path) -> Iterator[tuple[Any, np.ndarray, int]]:
        """The texts of a file or folder; those that are blank have no code."""
        for texts, places, block in text_blocks(source):
            yield texts, places, len(block)

    def _write_network(self, folder: Path) -> dict[str, Any]:
        network = cast(NestedTexts, self.network_)
        save_model(network.encoder.model, folder / "model")
        write_tensors(folder / "model.safetensors", network.head.state_dict())
        return {"head": network.head.arguments}

    def _read_network(self, folder: Path, record: Mapping[str, Any]) -> nn.Module:
        encoder = open_model(folder / "model")
        path = folder / "model.safetensors"
        tensors = read_tensors(path)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        head = within(MatryoshkaHead, record["head"], shapes, path)
        head.load_state_dict(tensors)
        return NestedTexts(encoder, head)
