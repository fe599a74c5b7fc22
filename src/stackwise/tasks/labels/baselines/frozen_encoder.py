"""A frozen encoder, and logistic regression on what it makes of a text.

    x = m / ||m||,    m = mean over the text's tokens of the encoder's last hidden states

Nothing of the encoder is trained: what a pretrained model knows by itself, read off by a linear
model. Decoders are read in the same way.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.catalog import Knob, ModelRef, baseline
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.outputs import mean_values
from stackwise.learning.targets import class_knobs
from stackwise.tasks.labels.estimators.estimator import TextEstimator
from stackwise.tasks.labels.estimators.pretrained import Opened, frozen_in, keep_frozen, opened
from stackwise.tasks.labels.estimators.tokens import through, tokenized
from stackwise.tasks.table.baselines.linear import LinearClasses, linear_knobs


class MeanState(nn.Module):
    """The mean of a model's last hidden states over the tokens of a text, scaled to length 1."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.base_model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) tokens and their mask -> (B, width)."""
        found = self.model(input_ids=input_ids, attention_mask=attention_mask)
        states = found.last_hidden_state.float()
        mask = attention_mask[:, :, None].to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(mean, dim=-1)


def mean_states(found: Opened, texts: Sequence[str] | np.ndarray, length: int) -> np.ndarray:
    """(n, width) float64 of length 1: what `MeanState` makes of the first `length` tokens."""
    tokens = tokenized(texts, found.tokenizer, found.most(length))
    return through(MeanState(found.model), tokens, partial(mean_values, classes=False))


@baseline(
    "frozen-encoder",
    title="A frozen encoder, and logistic regression",
    problem="classification",
    requires={"transformers": "llm"},
    presets={"quick": {"folds": 2, "max_steps": 100}},
)
class FrozenEncoderClassifier(LinearClasses, TextEstimator):
    """Logistic regression on the mean hidden state of a pretrained model that is not trained.

    Kept is what names the encoder and the hash of its weights; of an object, all of it. Fitted:
    `encoder_`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (linear_knobs, class_knobs)

    def __init__(
        self,
        *,
        model: Annotated[
            ModelRef | str, Knob("the encoder or decoder: a folder, packaged model, hub id, run")
        ] = "minilm",
        length: Annotated[int, Knob("most tokens of a text; what follows is not read", ge=8)] = 256,
    ) -> None:
        """A frozen encoder."""

    encoder_: Opened

    def _learn_features(self, train: LabelledRows, *, whole: bool, **told: Any) -> None:
        self.encoder_ = opened(self.model)

    def _matrix(self, samples: Any) -> np.ndarray:
        """(n, width) float64."""
        return mean_states(self.encoder_, samples.values, self.length)

    def _write(self, folder: Path) -> dict[str, Any]:
        kept = keep_frozen(self.encoder_, self.model, folder)
        return super()._write(folder) | {"encoder": kept}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.encoder_ = frozen_in(folder, record["encoder"])
