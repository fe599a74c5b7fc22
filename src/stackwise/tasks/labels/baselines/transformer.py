"""A transformer on texts: a small encoder from scratch, or a pretrained encoder or decoder tuned.

    TransformerClassifier()                     BERT of two blocks, its tokenizer learned from X
    TransformerClassifier(model="minilm")       the packaged MiniLM under a new head, all tuned

The head is that of transformers: of an encoder over its first token, of a decoder over the last
one. What is kept loads in plain transformers (`model/`).
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from torch import nn

from stackwise.catalog import Knob, ModelRef, baseline
from stackwise.models import half_types, open_model, save_model
from stackwise.tasks.labels.estimators.learner import TextClassifier, TextRows
from stackwise.tasks.labels.estimators.pretrained import opened
from stackwise.tasks.labels.estimators.tokens import pad_token
from stackwise.tasks.labels.heads import with_head
from stackwise.tasks.labels.texts import Texts
from stackwise.tasks.language.new_encoder import new_encoder

FROM_SCRATCH, TUNED = 1e-3, 5e-5
"""Learning rates where none is given."""


@baseline(
    "transformer",
    title="A transformer, from scratch or fine-tuned",
    problem="classification",
    requires={"transformers": "llm", "tokenizers": "llm"},
    training={
        "batch_size": 32, "max_epochs": 20, "patience": 4, "schedule": "linear", "warmup": 0.1,
        "weight_decay": 0.01,
    },
    presets={
        "quick": {"layers": 1, "width": 64, "heads": 2, "max_epochs": 8},
        "standard": {},
        "best": {"layers": 4, "width": 256, "max_epochs": 40, "patience": 8},
    },
)  # fmt: skip
class TransformerClassifier(TextClassifier):
    """A transformer that predicts the class of a text: a small one from scratch, or a pretrained
    encoder or decoder whose weights are all tuned.
    """

    tokenizer_place: ClassVar[str] = "model"

    def __init__(
        self,
        *,
        model: Annotated[
            ModelRef | str | None,
            Knob("a pretrained encoder or decoder to tune; none makes a small encoder"),
        ] = None,
        layers: Annotated[int, Knob("blocks, from scratch", ge=1, le=64, search=(1, 4))] = 2,
        width: Annotated[
            int, Knob("size of the stream, from scratch", ge=8, log=True, search=(64, 256))
        ] = 128,
        heads: Annotated[int, Knob("attention heads, from scratch", ge=1)] = 4,
        dropout: Annotated[
            float, Knob("probability that a unit is dropped, from scratch", ge=0, lt=1,
                        search=(0.0, 0.4)),
        ] = 0.1,
        lr: Annotated[
            float | None,
            Knob("learning rate of AdamW; none is 0.001 from scratch, 0.00005 for tuning", gt=0,
                 log=True, search=(1e-5, 2e-3)),
        ] = None,
    ) -> None:  # fmt: skip
        """A transformer on texts."""

    def rule_options(self) -> dict[str, Any]:
        """The training knobs as arguments of `Backprop`."""
        usual = FROM_SCRATCH if self.model is None else TUNED
        return super().rule_options() | {"lr": usual if self.lr is None else self.lr}

    def choose_reading(self, texts: Texts) -> tuple[Any, int]:
        """The tokenizer of the pretrained model, or one learned from the texts."""
        if self.model is None:
            return super().choose_reading(texts)
        found = opened(self.model)
        return found.tokenizer, found.most(self.length)

    def build_network(self, rows: TextRows) -> nn.Module:
        """The model with a head of the classes; the one that is given is left as it is."""
        pad = pad_token(self.tokenizer_)
        return with_head(self.begins_with(rows), self.classes_.tolist(), pad=pad, seed=self.seed_)

    def begins_with(self, rows: TextRows) -> Any:
        """A copy of the pretrained model, or a new encoder."""
        if self.model is None:
            return self._new_encoder(rows)
        base: Any = copy.deepcopy(opened(self.model).model)
        # half-precision weights would lose small steps
        return base.float() if base.dtype in half_types() else base

    def _new_encoder(self, rows: TextRows) -> nn.Module:
        return new_encoder(
            rows.vocabulary, width=self.width, layers=self.layers, heads=self.heads,
            context=self.length_, dropout=self.dropout, pad=pad_token(self.tokenizer_),
        )  # fmt: skip

    def _write_network(self, folder: Path) -> dict[str, Any]:
        save_model(self.network_, folder / "model")
        return {}

    def _read_network(self, folder: Path, record: Mapping[str, Any]) -> nn.Module:
        network: nn.Module = open_model(folder / "model")
        return network
