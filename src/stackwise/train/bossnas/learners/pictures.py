"""The search on pictures."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError
from stackwise.learning.labelled_estimator import held_out_knobs
from stackwise.learning.targets import class_knobs
from stackwise.tasks.images.estimators.estimator import image_knobs
from stackwise.tasks.images.estimators.learner import ImageClassifier, augmentation_knobs
from stackwise.tasks.images.estimators.pixels import Pixels
from stackwise.train.bossnas.learners.knobs import search_knobs
from stackwise.train.bossnas.learners.searching import CARD, Searching
from stackwise.train.bossnas.search.views import PictureViews, Views
from stackwise.train.bossnas.spaces import (
    HyTra,
    MBConvSpace,
    OperationSpace,
    SlimSpace,
    Space,
)
from stackwise.training.knobs import training_knobs

TRAINING: dict[str, Any] = {
    "lr": 1e-3, "schedule": "cosine", "warmup": 0.1, "patience": None, "max_epochs": 20,
}  # fmt: skip
DEPTHS = (2, 4, 4, 4, 4)
USUAL_WIDTHS = (8, 16, 24, 32, 40, 48, 56, 64)
SIZES: dict[str, Any] = {"blocks": 3, "layers": 2, "width": 8}
"""Of HyTra where nothing is said: what a processor searches in minutes; `best` is the paper's."""


@learner(
    "bossnas", **CARD, training=TRAINING, problem="classification",
    presets={
        "quick": {"width": 4, "blocks": 2, "layers": 1, "max_epochs": 4, "min_steps": 0,
                  "projection": 16, "hidden": 32},
        "standard": {},
        "best": {"width": 64, "blocks": 4, "layers": 4, "projection": 256, "hidden": 4096},
    },
)  # fmt: skip
class BossNAS(Searching, ImageClassifier):
    """Search the layers of a network on pictures, without labels: convolution or attention and
    where maps are halved (hytra), widths (size), inverted residuals (mbconv), or operations of one
    width.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        search_knobs, held_out_knobs, image_knobs, augmentation_knobs, class_knobs, training_knobs,
    )  # fmt: skip

    def __init__(
        self,
        *,
        space: Annotated[
            Literal["hytra", "size", "mbconv", "operations"], Knob("what is searched")
        ] = "hytra",
        widths: Annotated[
            Sequence[int] | None, Knob("of space=size, to choose from; none is 8, 16, ..., 64")
        ] = None,
        scales: Annotated[
            int | None, Knob("of space=hytra; none is 4, or what the pictures bear", ge=1, le=4)
        ] = None,
    ) -> None:
        """A search space on pictures."""

    def build_space(self, features: Pixels) -> Space:
        """The space of the estimator's kind and size."""
        self._refuse_idle_knobs()
        form: dict[str, Any] = {"channels": features.shape[1], "size": features.size}
        given = {"blocks": self.blocks, "layers": self.layers, "width": self.width}
        sizes = SIZES | {name: value for name, value in given.items() if value is not None}
        if self.space == "hytra":
            borne = min(4, min(features.size).bit_length())
            return HyTra(**form, **sizes, scales=self.scales or borne)
        if self.space == "operations":
            return OperationSpace(**form, **{"layers": 3, "width": 16} | {
                name: value for name, value in given.items() if value is not None
            })  # fmt: skip
        if self.space == "size":
            depths = (2, 2, 1) if self.blocks is None else (2,) * self.blocks
            depths = depths if self.layers is None else (self.layers,) * len(depths)
            widths = USUAL_WIDTHS if self.widths is None else list(self.widths)
            return SlimSpace(**form, depths=depths, widths=widths)
        deep = DEPTHS[: self.blocks or len(DEPTHS)]
        if self.layers is not None:
            deep = (self.layers,) * len(deep)
        return MBConvSpace(**form, depths=deep, width=self.width or 16)

    def _refuse_idle_knobs(self) -> None:
        """Refuse a knob that this space has no use for.

        Raises:
            KnobError: such a knob is given.
        """
        for name, user in (("widths", ("size",)), ("scales", ("hytra",)),
                           ("width", ("hytra", "mbconv", "operations"))):  # fmt: skip
            if getattr(self, name) is not None and self.space not in user:
                raise KnobError(f"{name} is for space={' or '.join(user)}, not for {self.space}")

    def usual_views(self, features: Pixels) -> Views:
        """Pictures varied as `augment` says; where it says nothing, as `shift`."""
        return PictureViews(self.recipe(), features.mean, features.std)
