"""DeepStack as a learner on questions about pictures."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from stackwise.build.deepstack.grids import best_grid
from stackwise.build.deepstack.network import DeepStackReader, Variant
from stackwise.build.deepstack.sampling import Sampling
from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError
from stackwise.tasks.vqa.estimators.learner import PRESETS, TRAINING, VQALearner
from stackwise.tasks.vqa.estimators.network import PictureReader
from stackwise.tasks.vqa.estimators.vision import Tower

CARD: dict[str, Any] = {
    "title": "Stack fine visual tokens on early layers of a language model",
    "paper": "2406.04334",
    "cost": "a sequence as short as one view's; the vision tower reads every crop too",
}
VariantKnob = Annotated[
    Variant, Knob("stacks in the language model (L), in the tower (V), of its depths; or rivals")
]
SamplingKnob = Annotated[Sampling, Knob("which fine tokens make a stack")]
GridKnob = Annotated[
    int | Literal["auto"], Knob("crops of a side; auto suits each picture's shape", ge=1, le=8)
]
CropsKnob = Annotated[int, Knob("crops of a picture at most, where the grid is auto", ge=2, le=64)]
StartKnob = Annotated[int, Knob("block of the language model that gets the first stack", ge=0)]
IntervalKnob = Annotated[int, Knob("blocks from one stack to the next", ge=1)]
SplitKnob = Annotated[
    int | None, Knob("blocks of the tower before the stacks of V; none is half", ge=0)
]
TapsKnob = Annotated[
    Sequence[int] | None, Knob("blocks of the tower that are tapped; none: as Qwen3-VL's lie")
]
MergeKnob = Annotated[int, Knob("patches of a side that a tap merges to one token", ge=1, le=8)]


@learner(
    "deepstack",
    training=TRAINING,
    presets=PRESETS | {"quick": PRESETS["quick"] | {"start": 0}},  # four stacks on four blocks
    **CARD,
)
class DeepStackVQA(VQALearner):
    """Answer questions about pictures, fine tokens added to the stream of early layers.

    The sequence is as long as for the low view alone. With `variant=V` the vision transformer must
    learn, and does unless `tune_vision=false` is said.
    """

    def __init__(
        self,
        *,
        variant: VariantKnob = "L",
        sampling: SamplingKnob = "spatial",
        grid: GridKnob = 2,
        max_crops: CropsKnob = 4,
        start: StartKnob = 1,
        interval: IntervalKnob = 1,
        split: SplitKnob = None,
        taps: TapsKnob = None,
        merge: MergeKnob = 2,
    ) -> None:
        """How much is seen, and where it is added."""

    def build_network(self, language: Any, tower: Tower) -> DeepStackReader:
        """A `DeepStackReader` of these parts."""
        return DeepStackReader(
            language, tower, variant=self.variant, sampling=self.sampling, stacks=self._most,
            start=self.start, interval=self.interval, split=self.split, taps=self.taps,
            merge=self.merge,
        )  # fmt: skip

    def with_tuned(self, network: PictureReader) -> PictureReader:
        """As for every reader, but that a tower with stacks in it must learn to use them."""
        network = super().with_tuned(network)
        if self.variant == "V" and self.tune_vision is None and network.tower is not None:
            network.tower.requires_grad_(True)
        return network

    @property
    def _most(self) -> int:
        return self.max_crops if self.grid == "auto" else int(self.grid) ** 2

    def crops(self) -> tuple[int, Callable[[int, int], tuple[int, int]]] | None:
        """The most crops of a picture and the grid of one, where the fine view is read."""
        if self.variant in ("taps", "dummy"):
            return None
        if self.grid == "auto":
            return self.max_crops, self._best
        side = int(self.grid)
        return side * side, lambda height, width: (side, side)

    def _best(self, height: int, width: int) -> tuple[int, int]:
        gw, gh = best_grid(width, height, self.max_crops, self._side())
        return gh, gw

    def learned_depths(self) -> dict[int, int]:
        """Which block of the language model gets which stack; empty where none is added there."""
        if self.variant not in ("L", "dummy", "taps"):
            return {}
        if not hasattr(self, "network_"):
            raise KnobError("fit first: how many stacks there are, the network says")
        deep: Any = self.network_
        count = len(deep.mergers.taps) if deep.mergers is not None else deep.stacks
        return {self.start + k * self.interval: k for k in range(count)}
