"""RCNet as an estimator: its knobs are the configuration of the method."""

from typing import Annotated, Literal

from torch import nn

from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError
from stackwise.layers.pyramid import RCNet
from stackwise.tasks.detection.estimators.detector import QUICK, TRAINING, Detector


@learner(
    "rcnet",
    title="A detector whose pyramid is fused in one reverse pass",
    verb="build",
    paper="2110.12130",
    cost="trains one detector; conv=deform takes 1.7 times as long on a CPU",
    verified="tests/layers/pyramid/test_rcnet_parity.py",
    training=TRAINING,
    presets={
        "quick": QUICK,
        "standard": {},
        "best": {"conv": "deform", "width": 96, "max_epochs": 120},
    },
)
class RCNetDetector(Detector):
    """Find objects on a pyramid that is fused from fine to coarse, and whose levels then meet."""

    def __init__(
        self,
        *,
        fusion: Annotated[
            Literal["rcnet", "revfp", "csn"],
            Knob("rcnet: the reverse pyramid, and levels that meet; revfp: the first alone; csn: "
                 "the second, on an FPN"),
        ] = "rcnet",
        guided: Annotated[
            bool, Knob("a map of attention multiplies what is enlarged in the reverse pyramid")
        ] = True,
        weights: Annotated[
            Literal["dynamic", "mean"],
            Knob("each picture says how much of which map is taken, or halves"),
        ] = "dynamic",
        conv: Annotated[
            Literal["plain", "deform"],
            Knob("3x3 convolutions of the reverse pyramid; the released models' are deformable"),
        ] = "plain",
        neck_norm: Annotated[
            Literal["batch", "group"],
            Knob("norm of the neck: batch norm, or group norm for less than 4 pictures a step"),
        ] = "batch",
        ratio: Annotated[
            int, Knob("levels take width / ratio channels of another one", ge=4, le=64)
        ] = 16,
        wrap: Annotated[bool, Knob("levels are a ring, else nothing comes from outside")] = True,
    ) -> None:  # fmt: skip
        """A reverse pyramid, and a network in which all levels meet."""

    def build_neck(self, channels: list[int], width: int) -> nn.Module:
        """An `RCNet`."""
        if self.fusion != "revfp" and width % self.ratio:
            raise KnobError(
                f"width must be a multiple of ratio, got width={width} and ratio={self.ratio}"
            )
        return RCNet(
            channels, width, self.levels, fusion=self.fusion, guided=self.guided,
            weights=self.weights, conv=self.conv, norm=self.neck_norm, ratio=self.ratio,
            wrap=self.wrap,
        )  # fmt: skip
