"""The estimators that all networks on texts share.

A subclass says which network it builds; it is called with `input_ids` and `attention_mask` (B, T)
and returns (B, C) logits, or what transformers returns with `logits`.

    class Plain(TextClassifier):
        def __init__(self, *, width: Annotated[int, Knob("of the embedding", ge=1)] = 32) -> None:
            "Words averaged."

        def build_network(self, rows):
            return Net(vocabulary=rows.vocabulary, n_outputs=rows.n_outputs, width=self.width)

By default the tokenizer is learned from the training texts, and a text begins with a token of its
own; `choose_reading` takes another.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import nn

from stackwise.catalog import Knob
from stackwise.errors import ModelError
from stackwise.learning.labelled_estimator import held_out_knobs
from stackwise.learning.labelled_network import LabelledNetwork, PredictsClasses
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.targets import class_knobs
from stackwise.tasks.labels.estimators.estimator import TextEstimator
from stackwise.tasks.labels.estimators.pretrained import kept_tokenizer
from stackwise.tasks.labels.estimators.tokens import TokenBatches, Tokens, through, tokenized
from stackwise.tasks.labels.texts import Texts
from stackwise.tasks.language.tokenizers import END, learned_tokenizer
from stackwise.training.batches import ArrayBatches
from stackwise.training.knobs import distillation_knobs, temperature_knobs, training_knobs


def reading_knobs(
    *,
    length: Annotated[
        int, Knob("most tokens of a text; what follows is not read", ge=8, search=(64, 256))
    ] = 128,
    vocabulary: Annotated[
        int, Knob("tokens of a tokenizer that is learned from the texts", ge=257)
    ] = 4096,
) -> None:
    """How networks read texts."""


@dataclass(frozen=True)
class TextRows:
    """The training texts, as a network is made for them.

    Attributes:
        tokens: the texts. target: (n,) class codes. n_outputs: of the network.
        tokenizer: that made the tokens.
    """

    tokens: Tokens
    target: np.ndarray
    n_outputs: int
    tokenizer: Any

    def __len__(self) -> int:
        return len(self.target)

    @property
    def vocabulary(self) -> int:
        """Different tokens."""
        return len(self.tokenizer)


class TextLearner(LabelledNetwork, TextEstimator):
    """A neural network on texts.

    Fitted attributes are those of `TextEstimator` and of `NetworkLearner`, and `tokenizer_` and
    `length_`, the most tokens that are read of a text.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        held_out_knobs, reading_knobs, training_knobs, distillation_knobs,
    )  # fmt: skip
    floor: ClassVar[dict[str, Any]] = {"min_steps": 200}
    fitted: ClassVar[str] = "network_"
    tokenizer_place: ClassVar[str] = "tokenizer"
    """The folder beside `model.json` in which the tokenizer is kept."""

    def build_network(self, rows: TextRows) -> nn.Module:
        """Make the network; torch's random state is that of the seed. Subclasses define this."""
        raise ModelError(f"{type(self).__name__} does not say which network it builds")

    def choose_reading(self, texts: Texts) -> tuple[Any, int]:
        """What the training texts are read with, by default learned from them, and the most tokens
        of a text.
        """
        return text_tokenizer(texts.values, self.vocabulary), int(self.length)

    def build_batches(
        self, tensors: dict[str, torch.Tensor], batch_size: int, seed: int
    ) -> ArrayBatches:
        """Batches of `input_ids`, `attention_mask`, `target` and `weight`."""
        return TokenBatches(tensors, batch_size, seed=seed)

    def tokens(self, texts: Texts) -> Tokens:
        """Texts as the fitted learner reads them."""
        return tokenized(texts.values, self.tokenizer_, self.length_)

    def _learn_features(self, train: LabelledRows, *, whole: bool, **told: Any) -> None:
        self.tokenizer_, self.length_ = self.choose_reading(train.samples)

    def _features(self, samples: Texts, *, quietly: bool = False) -> Tokens:
        return self.tokens(samples)

    def _inputs(self, features: Tokens) -> Mapping[str, Any]:
        longest = max(len(row) for row in features.rows)
        return features.padded(range(len(features)), longest)

    def _network(self, features: Tokens, target: np.ndarray) -> nn.Module:
        return self.build_network(TextRows(features, target, self.n_outputs_, self.tokenizer_))

    def _put_through(self, network: nn.Module, features: Tokens, reduce: Any) -> np.ndarray:
        return through(network, features, reduce)

    def _write(self, folder: Path) -> dict[str, Any]:
        record = super()._write(folder) | {"length": self.length_}
        self.tokenizer_.save_pretrained(folder / self.tokenizer_place)
        return record

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.tokenizer_ = kept_tokenizer(folder / self.tokenizer_place)
        self.length_ = int(record["length"])
        super()._read(folder, record)


class TextClassifier(PredictsClasses, TextLearner):
    """A neural network that predicts the class of a text."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        held_out_knobs, reading_knobs, class_knobs, training_knobs, distillation_knobs,
        temperature_knobs,
    )  # fmt: skip


def text_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Byte pairs learned from texts; each text begins with a token of its own, which pads too."""
    from tokenizers.processors import TemplateProcessing

    made = learned_tokenizer(texts, vocabulary)
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{END} $A", special_tokens=[(END, made.convert_tokens_to_ids(END))]
    )
    made.pad_token = END
    return made
