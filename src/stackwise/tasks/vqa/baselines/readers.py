"""The baselines that read: the question alone, the low view, and every token of the fine view.

All begin from the same language model and tower, and differ in the tokens that stand before the
question. The last is the honest opponent of whatever adds fine tokens without more length: it has
the same tokens, and pays for them with a sequence that is as much longer.
"""

from collections.abc import Callable
from typing import Annotated, ClassVar

from stackwise.catalog import Knob, baseline
from stackwise.tasks.vqa.estimators.learner import PRESETS, TRAINING, VQALearner
from stackwise.tasks.vqa.estimators.network import Stands


@baseline("question-only", title="The question alone", training=TRAINING, presets=PRESETS)
class QuestionOnly(VQALearner):
    """Answer from the question, the picture unseen: what can be guessed."""

    stands: ClassVar[Stands] = "none"

    def __init__(self) -> None: ...


@baseline("low-view", title="A language model with the tokens of the low view alone",
          training=TRAINING, presets=PRESETS)  # fmt: skip
class FewTokens(VQALearner):
    """Read the picture in low resolution: as few tokens as fit."""

    stands: ClassVar[Stands] = "low"

    def __init__(self) -> None: ...


@baseline("all-tokens", title="A language model with every token of both views in its sequence",
          training=TRAINING, presets=PRESETS)  # fmt: skip
class AllTokens(VQALearner):
    """Read the low view and then every token of the fine view: the longer sequence."""

    stands: ClassVar[Stands] = "global-string"

    def __init__(
        self, *, grid: Annotated[int, Knob("crops of a side of the fine view", ge=1, le=8)] = 2
    ) -> None: ...

    def crops(self) -> tuple[int, Callable[[int, int], tuple[int, int]]]:
        """A square of crops, whatever the picture's shape."""
        side = int(self.grid)
        return side * side, lambda height, width: (side, side)
