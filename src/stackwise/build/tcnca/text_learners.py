"""TCNCA on tokens: the class of a text, and a language model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from stackwise.build.tcnca.knobs import Ways, block_knobs, decays, sizes_of, told
from stackwise.build.tcnca.networks import TCNCALanguageModel, TCNCATexts
from stackwise.build.tcnca.series_learners import CARD, Pooled
from stackwise.catalog import learner
from stackwise.learning.kept_network import keep_network, network_in
from stackwise.tasks.labels.estimators.learner import TextClassifier, TextRows
from stackwise.tasks.language.learner import LanguageLearner, RowsAtOnce
from stackwise.training.knobs import training_knobs
from stackwise.training.rules import Backprop


@learner(
    "tcnca",
    problem="classification",
    requires={"transformers": "llm", "tokenizers": "llm"},
    training={"lr": 3e-3, "weight_decay": 0.01, "schedule": "cosine", "warmup": 0.1,
              "batch_size": 32, "max_epochs": 20, "patience": 4},
    presets={
        "quick": {"width": 32, "blocks": 1, "max_epochs": 8},
        "standard": {},
        "best": {"width": 128, "blocks": 4, "max_epochs": 40, "dropout": 0.1},
    },
    **CARD,
)  # fmt: skip
class TCNCATextClassifier(TextClassifier):
    """Classify texts by dilated convolutions and attention inside chunks, over tokens learned from
    them; `vocabulary=257` reads bytes.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (block_knobs, *TextClassifier.shared_knobs)

    def __init__(self, *, direction: Ways = "symmetric", pooling: Pooled = "mean") -> None:
        """Convolutions for the range, attention in chunks."""

    def build_network(self, rows: TextRows) -> nn.Module:
        """A network that sees the longest text whole."""
        sizes = sizes_of(self, self.length_, self.direction)
        network = TCNCATexts(
            vocabulary=rows.vocabulary, n_outputs=rows.n_outputs, sizes=sizes, blocks=self.blocks,
            pooling=self.pooling,
        )  # fmt: skip
        self.notes_ += told(sizes, self.blocks, self.length_, None)
        return network

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Matrices and filters decay, rates and scales do not."""
        return decays(name, parameter)


@learner(
    "tcnca",
    tasks=("text",),
    requires={"transformers": "llm", "tokenizers": "llm"},
    training={"lr": 3e-3, "weight_decay": 0.1, "schedule": "cosine", "warmup": 0.05,
              "max_epochs": 1, "patience": None, "batch_size": 16},
    presets={
        "quick": {"width": 48, "blocks": 2},
        "standard": {},
        "best": {"width": 256, "blocks": 8, "chunk": 128},
    },
    **CARD,
)  # fmt: skip
class TCNCALanguageLearner(LanguageLearner):
    """A causal language model of dilated convolutions and attention inside chunks, from random
    weights; it goes on with a text token by token, with a state that does not grow.
    """

    tasks: ClassVar[tuple[str, ...]] = ("text",)
    shared_knobs: ClassVar[tuple[Any, ...]] = (block_knobs, training_knobs)

    def __init__(self, *, rows_at_once: RowsAtOnce = None) -> None:
        """Convolutions for the range, attention in chunks."""

    def start(self, task: Any) -> nn.Module:
        """A model that sees a row of the text whole, and takes texts of any length."""
        sizes = sizes_of(self, task.length, "causal")
        model = TCNCALanguageModel(vocabulary=len(self.tokenizer_), sizes=sizes, blocks=self.blocks)
        cost = model.multiply_adds(task.length)
        self.notes_ += told(sizes, self.blocks, task.length, cost)
        return model

    def text_rule(self, task: Any, **options: Any) -> Backprop:
        """Ordinary training; matrices and filters decay."""
        return super().text_rule(task, **{"decay": decays} | options)

    def keep_model(self, folder: Path) -> None:
        """Write the tokenizer; the network is kept beside the record."""
        self.tokenizer_.save_pretrained(folder / "tokenizer")

    def take_model(self, folder: Path) -> None:
        """Read the tokenizer back."""
        from transformers import AutoTokenizer

        self.tokenizer_ = AutoTokenizer.from_pretrained(folder / "tokenizer")

    def _write(self, folder: Path) -> dict[str, Any]:
        return super()._write(folder) | {"network": keep_network(self.model_, folder)}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.model_ = network_in(folder, record["network"]).eval()
