"""The estimator: branched layers while it trains, a plain vision transformer once it has."""

import math
from typing import Annotated, Any, ClassVar, Literal, cast

from torch import nn

from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.shrink.vit_reparam.branches import Mixing, Values, branched_blocks
from stackwise.shrink.vit_reparam.merging import merge
from stackwise.shrink.vit_reparam.network import BranchedViT
from stackwise.shrink.vit_reparam.rule import JoinRule
from stackwise.shrink.vit_reparam.schedule import JoinSchedule, Order, Shape, set_join
from stackwise.tasks.images.estimators.learner import ImageClassifier, ImageRows
from stackwise.training.batches import ArrayBatches
from stackwise.training.phases import Phase, Trained
from stackwise.training.rules import Rule

PATCHES = 8
"""Patches along the longer side of a picture where `patch` is not given."""
CARD: dict[str, Any] = {
    "title": "Branches of a vision transformer, merged into few layers",
    "paper": "2511.19718",
    "cost": "trains as many layers as it would have without branches, and ships fewer",
    "presets": {
        "quick": {"width": 48, "max_epochs": 8, "epochs": 3},
        "standard": {},
        "best": {"width": 192, "max_epochs": 120, "epochs": 40},
    },
}


def joining_knobs(
    *,
    values: Annotated[
        Literal["join", "wide"], Knob("wide keeps the values of attention apart: more weights")
    ] = "join",
    start: Annotated[float, Knob("share of training after which joining begins", ge=0)] = 0.1,
    end: Annotated[float, Knob("share after which branches are joined", gt=0, le=1)] = 0.7,
    shape: Annotated[
        Literal["linear", "cosine", "step"], Knob("how lambda rises; step is all at once")
    ] = "linear",
    order: Annotated[
        Literal["together", "shallow-first", "deep-first", "ffn-first"],
        Knob("which layers or sublayers are joined first"),
    ] = "together",
    mixing: Annotated[
        Literal["mean", "learned"], Knob("what branches are joined to; learned weighs them")
    ] = "mean",
    pairwise: Annotated[bool, Knob("join 4 branches to 2, then 2 to 1")] = False,
) -> None:
    """How branches are joined, in training from scratch and in making a trained model shallower."""


@learner(
    "vit-reparam",
    problem="classification",
    training={"lr": 1e-3, "weight_decay": 0.05, "schedule": "cosine", "warmup": 0.1,
              "max_epochs": 40, "patience": None},
    **CARD,
)  # fmt: skip
class BranchedViTClassifier(ImageClassifier):
    """Train layers of parallel branches, join them, and keep a plain, shallow transformer.

    With `branches=1` it is a plain vision transformer of `depth` layers: what the transform
    `vit_reparam` makes shallower.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (joining_knobs, *ImageClassifier.shared_knobs)

    def __init__(
        self,
        *,
        depth: Annotated[int, Knob("layers of the network that is kept", ge=1, le=64)] = 6,
        branches: Annotated[
            int, Knob("parallel branches of a layer while it trains; 1 for none", ge=1, le=16)
        ] = 2,
        width: Annotated[
            int, Knob("numbers of a token", ge=1, le=4096, log=True, search=(48, 192))
        ] = 96,
        heads: Annotated[int, Knob("attention heads; they divide the width", ge=1, le=64)] = 3,
        mlp_ratio: Annotated[float, Knob("hidden units of the MLP over the width", gt=0)] = 4.0,
        patch: Annotated[
            int | None, Knob("pixels of a patch's side; none: an eighth of the picture", ge=1)
        ] = None,
        dropout: Annotated[
            float, Knob("probability that a number is dropped", ge=0, lt=1, search=(0.0, 0.2))
        ] = 0.0,
        drop_path: Annotated[
            float, Knob("probability that the last layer is left out", ge=0, lt=1)
        ] = 0.0,
    ) -> None:
        """A vision transformer that trains in branches."""

    def build_network(self, rows: ImageRows) -> nn.Module:
        """A `BranchedViT` of the estimator's size."""
        if self.width % self.heads:
            raise KnobError(f"heads={self.heads} does not divide width={self.width}")
        if self.pairwise and self.branches & (self.branches - 1):
            raise KnobError(f"pairwise takes 1, 2, 4, 8 or 16 branches, got {self.branches}")
        return BranchedViT(
            channels=rows.channels, image_size=rows.size, n_outputs=rows.n_outputs,
            patch=self.patch or math.ceil(max(rows.size) / PATCHES), width=self.width,
            depth=self.depth, heads=self.heads, mlp_ratio=self.mlp_ratio, branches=self.branches,
            values=cast(Values, self.values), mixing=cast(Mixing, self.mixing),
            pairwise=self.pairwise, dropout=self.dropout, drop_path=self.drop_path,
        )  # fmt: skip

    def joining(self) -> JoinSchedule:
        """When branches are joined."""
        return JoinSchedule(self.start, self.end, cast(Shape, self.shape), cast(Order, self.order))

    def build_rule(self, **watched: Any) -> Rule:
        """Learning while branches are joined."""
        return JoinRule(
            schedule_of_joining=self.joining(), time_limit=self.time_limit,
            **self.rule_options(), **watched,
        )  # fmt: skip

    def build_phases(
        self, batches: ArrayBatches, held: LabelledRows | None, watched: dict[str, Any]
    ) -> list[Phase]:
        """One phase; a network of one branch has nothing to join."""
        phases = super().build_phases(batches, held, watched)
        if self.branches == 1:
            phases[0].rule = super().build_rule(**watched)
        return phases

    def train(self, network: nn.Module, phases: list[Phase]) -> Trained:
        """Train, and merge what was joined."""
        self.joining()  # refuses a schedule that cannot be before anything is computed
        trained = super().train(network, phases)
        trained.model = self.merged(trained.model)
        return trained

    def merged(self, network: nn.Module) -> nn.Module:
        """The plain network; where training ended too early, its branches are joined by force."""
        parts = [p for block in branched_blocks(network) for p in (block.attention, block.ffn)]
        lam = min(float(part.lam) for part in parts)
        if self.branches > 1 and lam < 1:
            self.notes_.append(
                f"training ended at lambda = {lam:.2f}, before the branches were joined: merging "
                "changed the answers; give it more time"
            )
        set_join(network, 1.0)
        return merge(network)
