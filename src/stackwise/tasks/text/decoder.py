"""The baseline of a text: a decoder, trained from random weights in the ordinary way."""

from typing import Annotated, Any, ClassVar

from torch import nn

from stackwise.catalog import Knob, baseline
from stackwise.tasks.language.decoder import new_decoder
from stackwise.tasks.language.learner import Checkpointing, LanguageLearner, RowsAtOnce

TRAINING = {
    "lr": 3e-3, "weight_decay": 0.1, "schedule": "cosine", "warmup": 0.05, "max_epochs": 1,
    "patience": None, "batch_size": 16,
}  # fmt: skip
"""What small decoders are trained with: one pass, warm-up, then a falling rate."""


@baseline(
    "decoder",
    title="A decoder trained from scratch",
    training=TRAINING,
    presets={"quick": {"layers": 4, "width": 64, "heads": 4}},
)
class DecoderLearner(LanguageLearner):
    """A Llama that is trained on the text from random weights."""

    tasks: ClassVar[tuple[str, ...]] = ("text",)

    def __init__(
        self,
        *,
        layers: Annotated[int, Knob("blocks", ge=1)] = 8,
        width: Annotated[int, Knob("size of the stream", ge=8)] = 128,
        heads: Annotated[int, Knob("attention heads", ge=1)] = 4,
        rows_at_once: RowsAtOnce = None,
        checkpointing: Checkpointing = False,
    ) -> None: ...

    def start(self, task: Any) -> nn.Module:
        """A decoder with random weights."""
        return new_decoder(
            len(self.tokenizer_), layers=self.layers, width=self.width, heads=self.heads,
            length=task.length,
        )  # fmt: skip
