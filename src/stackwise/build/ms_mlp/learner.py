"""MS-MLP as an estimator: its knobs are the configuration of the method."""

from collections.abc import Sequence
from typing import Annotated, Literal

from torch import nn

from stackwise.build.ms_mlp.mix_shift import SHIFTS
from stackwise.build.ms_mlp.network import MSMLP
from stackwise.catalog import Knob, learner
from stackwise.layers.picture_size import steps
from stackwise.tasks.images.estimators.learner import ImageClassifier, ImageRows


@learner(
    "ms-mlp",
    title="Channel groups that look further away through wider windows",
    verb="build",
    problem="classification",
    paper="2202.06510",
    cost="trains one network",
    verified="tests/build/test_ms_mlp_parity.py",
    training={"lr": 4e-3, "batch_size": 64, "weight_decay": 0.05, "grad_clip": 5.0,
              "schedule": "cosine", "warmup": 0.1, "max_epochs": 30, "patience": None},
    presets={
        "quick": {"size": "pico", "max_epochs": 8},
        "standard": {},
        "best": {"max_epochs": 100, "drop_path": 0.1},
    },
)  # fmt: skip
class MSMLPClassifier(ImageClassifier):
    """Mix pictures by shifted groups of channels whose windows grow with their distance.

    AdamW, weight decay, cosine and clipping are the paper's; 30 epochs in place of 300, a tenth of
    the steps to warm up, and a higher learning rate for smaller batches are for thousands of small
    pictures. The paper's mixup, cutmix and RandAugment are `augment="strong"`; by default
    pictures are only moved, since a mirrored letter is another one.
    """

    def __init__(
        self,
        *,
        size: Annotated[
            Literal["pico", "nano", "tiny", "small", "base"],
            Knob(
                "pico and nano for 28 to 64 pixels, the paper's others for 224",
                search=("pico", "nano"),
            ),
        ] = "nano",
        mixing: Annotated[
            Literal["growing", "shrinking", "even", "reversed", "none"],
            Knob("windows of the groups over the stages; none: they are shifted only"),
        ] = "growing",
        shifts: Annotated[
            Sequence[int], Knob("pixels by which each of the five groups moves")
        ] = SHIFTS,
        order: Annotated[
            Literal["shift-mix", "mix-shift"], Knob("which of both comes first")
        ] = "shift-mix",
        border: Annotated[
            Literal["wrap", "zero"], Knob("what a shift brings in: the other side, or zeros")
        ] = "wrap",
        mirror: Annotated[bool, Knob("shifts change sides in every second block")] = False,
        hybrid: Annotated[
            Literal["parallel"] | None, Knob("parallel: window attention beside the mixing")
        ] = None,
        mlp_ratio: Annotated[
            float, Knob("hidden units of a block over its width", gt=0, le=16)
        ] = 4.0,
        drop_path: Annotated[
            float | None,
            Knob("how often the last block is left out; none: as the size has it", ge=0, lt=1),
        ] = None,
        layer_scale: Annotated[
            float | None, Knob("what blocks are scaled by at first; none: as the size has it", gt=0)
        ] = None,
    ) -> None:
        """Shifted groups of channels with windows that grow."""

    @property
    def least_size(self) -> int:
        """The least side of a picture: one pixel of the last map."""
        return MSMLP.least_size(size=self.size)

    def build_network(self, rows: ImageRows) -> nn.Module:
        """An `MSMLP` of the estimator's size."""
        network = MSMLP(
            channels=rows.channels, image_size=rows.size, n_outputs=rows.n_outputs, size=self.size,
            mixing=self.mixing, shifts=self.shifts, order=self.order, border=self.border,
            mirror=self.mirror, hybrid=self.hybrid, mlp_ratio=self.mlp_ratio,
            drop_path=self.drop_path, layer_scale=self.layer_scale,
        )  # fmt: skip
        self.notes_ += idle_shifts(network, rows.size, self.shifts)
        return network


def idle_shifts(network: MSMLP, size: Sequence[int], shifts: Sequence[int]) -> list[str]:
    """A note for each stage whose maps are no larger than a shift."""
    total, notes = network.strides[-1], []
    for number, stride in enumerate(network.strides, 1):
        height, width = (steps(side, total) * total // stride for side in size)
        far = sorted({abs(shift) for shift in shifts if abs(shift) >= min(height, width)})
        if far:
            notes.append(
                f"stage {number} has maps of {height} x {width}, which a shift of "
                f"{' or '.join(map(str, far))} leaves or goes round"
            )
    return notes
