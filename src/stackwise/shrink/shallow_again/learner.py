"""The estimator: a stack of residual layers that is trained one after the other or side by side."""

from typing import Annotated, Any, Literal, cast

from torch import nn

from stackwise.catalog import Knob, learner
from stackwise.shrink.shallow_again.network import Activation, Mode, ShallowNet
from stackwise.tasks.images.estimators.learner import ImageClassifier, ImageRows

CARD: dict[str, Any] = {
    "title": "A stack of residual blocks, run side by side",
    "paper": "2309.08414",
    "cost": "the same parameters and operations in fewer steps",
    "presets": {
        "quick": {"filters": 12, "max_epochs": 15, "epochs": 3},
        "standard": {},
        "best": {"filters": 48, "max_epochs": 100, "epochs": 20},
    },
}


@learner(
    "shallow-again",
    problem="classification",
    training={"lr": 2e-3, "weight_decay": 1e-4, "max_epochs": 40},
    **CARD,
)
class ShallowAgainClassifier(ImageClassifier):
    """Classify pictures by one broad layer of residual convolutions, or by the deep stack of them.

    `mode=sequential` trains the deep one, which the transform `shallow_again` makes shallow.
    """

    def __init__(
        self,
        *,
        mode: Annotated[
            Literal["parallel", "sequential"], Knob("layers side by side, or one after the other")
        ] = "parallel",
        depth: Annotated[int, Knob("residual layers", ge=1, le=256, search=(2, 16))] = 8,
        filters: Annotated[
            int, Knob("channels of every layer", ge=1, le=1024, log=True, search=(8, 64))
        ] = 24,
        kernel_size: Annotated[int, Knob("side of the convolutions", ge=1, le=31)] = 3,
        activation: Annotated[
            Literal["relu", "tanh", "gelu"], Knob("of each layer, before layers are summed")
        ] = "relu",
        order: Annotated[
            int, Knob("sweeps: 1 reads the first state alone, more come nearer the deep one", ge=1)
        ] = 1,
        group: Annotated[
            int | None, Knob("layers that are side by side; none: all of them", ge=1)
        ] = None,
        narrow: Annotated[
            bool, Knob("let layers begin smaller by sqrt(depth), for deep parallel stacks")
        ] = False,
    ) -> None:
        """A stack of residual layers."""

    @property
    def least_size(self) -> int:
        """The least side: maps are halved once."""
        return 2

    def build_network(self, rows: ImageRows) -> nn.Module:
        """A `ShallowNet` of the estimator's size."""
        return ShallowNet(
            channels=rows.channels, image_size=rows.size, n_outputs=rows.n_outputs,
            depth=self.depth, filters=self.filters, kernel_size=self.kernel_size,
            activation=cast(Activation, self.activation), mode=cast(Mode, self.mode),
            order=self.order, group=self.group, narrow=self.narrow,
        )  # fmt: skip
