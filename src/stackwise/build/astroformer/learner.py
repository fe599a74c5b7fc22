"""Astroformer as an estimator: its knobs are the configuration of the method."""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal, Self

from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.build.astroformer.network import Astroformer
from stackwise.catalog import Knob, learner
from stackwise.errors import ModelError
from stackwise.layers.picture_size import height_and_width
from stackwise.learning.outputs import batch_loss
from stackwise.tasks.images.estimators.learner import ImageClassifier, ImageRows
from stackwise.training.rules import Backprop, Rule, decays


@learner(
    "astroformer",
    title="Three stages of convolution and one of attention, for few pictures",
    verb="build",
    problem="classification",
    paper="2304.05350",
    cost="trains one network",
    verified="tests/build/test_astroformer_parity.py",
    names={"compare_layouts": "stackwise.build.astroformer.layouts:compare_layouts"},
    training={"lr": 2e-3, "batch_size": 64, "weight_decay": 0.05, "schedule": "cosine",
              "warmup": 0.1, "max_epochs": 50, "patience": None},
    presets={
        "quick": {"size": "pico", "max_epochs": 8, "drop_path": 0.0},
        "standard": {},
        "best": {"max_epochs": 200},
    },
)  # fmt: skip
class AstroformerClassifier(ImageClassifier):
    """Convolve pictures in three stages and let the places of the last map attend to each other.

    AdamW with cosine and label smoothing are the published command's. A learning rate of 2e-3 for
    batches of 64, decay of 0.05 and stochastic depth are for little data: the command's 2e-5 is a
    rate for fine-tuning, and the text names RAdam with Lookahead. Mixup with RandAugment, which
    hide no part of a picture, are `augment="mixed"`; by default pictures are only moved, since a
    mirrored or turned letter is another one. Of classes of unlike size the paper draws pictures in
    proportion; `class_weight="balanced"` weighs them.
    """

    def __init__(
        self,
        *,
        size: Annotated[
            Literal["pico", "nano", "0", "1", "2", "3", "4", "5"],
            Knob(
                "pico and nano for 28 to 64 pixels, the paper's 0 to 5 for 224",
                search=("pico", "nano"),
            ),
        ] = "nano",
        layout: Annotated[
            str, Knob("C or T for each stage; C-C-CCT-T says the blocks of a stage")
        ] = "CCCT",
        relative: Annotated[
            Literal["bias", "mlp", "post", "none"],
            Knob("how attention knows offsets: a table, an MLP, behind the softmax, not at all"),
        ] = "bias",
        stem_stride: Annotated[
            Literal[1, 2] | None, Knob("step of the stem; none: as the size has it")
        ] = None,
        strides: Annotated[
            Sequence[int] | None, Knob("step of each stage, 1 or 2; none: as the size has it")
        ] = None,
        hidden_head: Annotated[bool, Knob("a layer and tanh before the last one")] = True,
        drop_path: Annotated[
            float, Knob("how often the last block is left out", ge=0, lt=1, search=(0.0, 0.3))
        ] = 0.1,
        dropout: Annotated[
            float, Knob("probability that a feature is dropped before the last layer", ge=0, lt=1)
        ] = 0.0,
        smoothing: Annotated[
            float,
            Knob("share of a label that goes to all classes; not beside a teacher", ge=0, lt=1),
        ] = 0.1,
    ) -> None:
        """Three stages of convolution and one of attention."""

    @property
    def least_size(self) -> int:
        """The least side of a picture: one pixel of the last map."""
        return Astroformer.least_size(
            size=self.size, stem_stride=self.stem_stride, strides=self.strides
        )

    def build_network(self, rows: ImageRows) -> nn.Module:
        """An `Astroformer` of the estimator's size, for pictures of this size."""
        return Astroformer(
            channels=rows.channels, image_size=rows.size, n_outputs=rows.n_outputs, size=self.size,
            layout=self.layout, relative=self.relative, stem_stride=self.stem_stride,
            strides=self.strides, head_hidden=self.hidden_head, drop_path=self.drop_path,
            dropout=self.dropout,
        )  # fmt: skip

    def build_rule(self, **watched: Any) -> Rule:
        """Cross-entropy with smoothed labels; scores of the validation part are without, and so is
        the loss beside a teacher, whose answers are smooth.
        """
        if watched.get("loss", batch_loss) is batch_loss:
            watched["loss"] = partial(batch_loss, smoothing=self.smoothing)
        return Backprop(**self.rule_options(), **watched)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Tables of offsets do not decay, nor do biases and norms."""
        return decays(name, parameter) and not name.endswith(".table")

    def resized(self, image_size: int | Sequence[int]) -> Self:
        """A copy of this fitted classifier for pictures of another size.

        Its tables of offsets are interpolated to the larger or smaller last maps; all else stays.
        Scores at another size are those of pictures that look larger or smaller than in training:
        train on where they matter.

        Args:
            image_size: a side, or (height, width), of at least `least_size`.

        Raises:
            ModelError: that is smaller than the network takes.
        """
        check_is_fitted(self, "network_")
        height, width = height_and_width(image_size)
        if min(height, width) < self.least_size:
            raise ModelError(
                f"pictures of {height} x {width} are too small: this network takes sides of at "
                f"least {self.least_size}"
            )
        made = copy.copy(self)
        network: Any = self.network_
        made.network_ = network.resized((height, width)).eval()
        made.image_shape_ = (self.image_shape_[0], height, width)
        made.network_size_ = (height, width)
        made.notes_ = [*self.notes_, f"resized from {_by(self.network_size_)} pixels"]
        return made


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
