"""The learner on text: a decoder every depth of which is a model, by one loss at all exits.

Each exit goes through the shared last norm and head; the loss is the mean of the language-model
losses at all exits, from one forward pass (Sorted LLaMA). A shallow exit then drafts for the whole.
"""

import copy
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, cast

from torch import nn

from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError
from stackwise.tasks.language.decoder import new_decoder
from stackwise.tasks.language.learner import Checkpointing, LanguageLearner
from stackwise.tasks.text.decoder import TRAINING
from stackwise.train.sortednet.extracting import extract
from stackwise.train.sortednet.knobs import choice_of, drawing_of, sorting_knobs, spread_of
from stackwise.train.sortednet.learner import CARD
from stackwise.train.sortednet.marks import mark_sorted, sorted_space
from stackwise.train.sortednet.reading import Axes
from stackwise.train.sortednet.rule import SortedRule
from stackwise.train.sortednet.speculative import SelfSpeculation
from stackwise.training.phases import Phase, Trained

DRAFT_TOKENS = 4


@learner(
    "sortednet",
    tasks=("text",),
    training=TRAINING | {"scheme": "all", "depths": (0.25, 0.5, 0.75, 1.0)},
    **CARD | {"presets": {
        "quick": {"layers": 4, "width": 64, "heads": 4}, "standard": {},
        "best": {"layers": 12, "width": 256, "heads": 8},
    }},
)  # fmt: skip
class SortedLanguageModel(LanguageLearner):
    """A decoder that learns at several depths at once, each of which is a language model.

    Fitted: `model_`, whose config says its sub-models, and `tokenizer_`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (sorting_knobs, *LanguageLearner.shared_knobs)

    def __init__(
        self,
        *,
        layers: Annotated[int, Knob("blocks", ge=1)] = 8,
        width: Annotated[int, Knob("size of the stream", ge=8)] = 128,
        heads: Annotated[int, Knob("attention heads", ge=1)] = 4,
        checkpointing: Checkpointing = False,
    ) -> None: ...

    def start(self, task: Any) -> nn.Module:
        """A decoder with random weights."""
        return cast(nn.Module, new_decoder(
            len(self.tokenizer_), layers=self.layers, width=self.width, heads=self.heads,
            length=task.length,
        ))  # fmt: skip

    def phases(self, task: Any, model: nn.Module) -> list[Phase]:
        """One phase through the sub-models."""
        (phase,) = super().phases(task, model)
        phase.rule = SortedRule(
            self.text_rule(task), choice_of(self), drawing_of(self), seed=self.seed_,
            spread=spread_of(self),
        )  # fmt: skip
        return [phase]

    def finish(self, trained: Trained) -> None:
        """Take what was trained, and note its sub-models in its config."""
        super().finish(trained)
        axes = Axes.of(self.model_, spread=spread_of(self))
        mark_sorted(self.model_, choice_of(self).space(axes.extents), spread_of(self))

    def generate(
        self,
        prompts: Annotated[Sequence[str], Knob("what is continued, each by itself")],
        *,
        max_new_tokens: Annotated[int, Knob("tokens at most of each answer", ge=1)] = 50,
        temperature: Annotated[
            float, Knob("how random the tokens are; 0 takes the likeliest", ge=0)
        ] = 0.0,
        seed: Annotated[int, Knob("of the random tokens", ge=0)] = 0,
        depth: Annotated[int | None, Knob("blocks that answer; none is all", ge=1)] = None,
        draft_depth: Annotated[
            int | None, Knob("blocks that draft, so that the same text comes sooner", ge=1)
        ] = None,
        draft_tokens: Annotated[int, Knob("drafts before they are checked", ge=1)] = DRAFT_TOKENS,
        confidence: Annotated[
            float, Knob("a draft less likely than this is the last before a check", ge=0, le=1)
        ] = 0.0,
    ) -> list[str]:
        """Continue each prompt, by the likeliest tokens where `temperature` is 0.

        Returns:
            what follows each prompt, without it.
        """
        asked = copy.copy(self)
        if depth is not None:
            known = sorted({sizes["depth"] for sizes in sorted_space(self.model_).sizes})
            if depth not in known:
                raise KnobError(
                    f"the model learned to answer at the depths {known}, not at {depth}"
                )
            asked.model_ = extract(self.model_, depth=depth, spread=spread_of(self))
        if draft_depth is not None:
            if temperature > 0:
                raise KnobError("drafts are checked against greedy decoding; leave temperature 0")
            if self.spread == "even":
                raise KnobError("with spread=even a shallow exit is not the beginning of the whole")
            asked.model_ = SelfSpeculation(
                asked.model_, draft_depth, draft_tokens=draft_tokens, confidence=confidence
            )
        elif confidence or draft_tokens != DRAFT_TOKENS:
            raise KnobError("draft_tokens and confidence are about drafts: give draft_depth")
        return LanguageLearner.generate(
            asked, prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
        )
