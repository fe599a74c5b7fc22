"""A frozen encoder's vectors of words, and logistic regression: what a pretrained model knows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from stackwise.catalog import Knob, ModelRef, baseline
from stackwise.tasks.labels.estimators.pretrained import Opened, frozen_in, keep_frozen, opened
from stackwise.tasks.tags.baselines.linear import LinearTagger
from stackwise.tasks.tags.estimators.estimator import TaggedRows
from stackwise.tasks.tags.estimators.token_vectors import word_vectors
from stackwise.tasks.tags.pretrained import missing


@baseline(
    "token-vectors",
    title="A frozen encoder's word vectors, logistic regression",
    requires={"transformers": "llm"},
    missing=missing,
    presets={"quick": {"max_steps": 50, "penalty": 1.0}},
)
class TokenVectorsTagger(LinearTagger):
    """Logistic regression on the vectors that a pretrained encoder has for words.

    The encoder is not trained. Kept is what names it and the hash of its weights; of an object,
    all of it. Fitted: `encoder_`.
    """

    def __init__(
        self,
        *,
        model: Annotated[
            ModelRef | str, Knob("the encoder or decoder: a folder, packaged model, hub id, run")
        ] = "minilm",
        length: Annotated[int, Knob("most pieces of a sentence read together", ge=8)] = 256,
    ) -> None:
        """A frozen encoder."""

    encoder_: Opened

    def _learn_features(self, train: TaggedRows) -> None:
        self.encoder_ = opened(self.model)

    def _matrix(self, sentences: list[list[str]]) -> np.ndarray:
        """(words, width) float64."""
        return word_vectors(self.encoder_, sentences, self.length).astype(np.float64)

    def _write(self, folder: Path) -> dict[str, Any]:
        kept = keep_frozen(self.encoder_, self.model, folder)
        return super()._write(folder) | {"encoder": kept}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.encoder_ = frozen_in(folder, record["encoder"])
