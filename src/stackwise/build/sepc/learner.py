"""SEPC as an estimator: its knobs are the configuration of the method."""

from typing import Annotated, Any, ClassVar, Literal

from torch import nn

from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError
from stackwise.layers.pyramid import FPN, SEPC
from stackwise.tasks.detection.estimators.detector import (
    QUICK,
    TRAINING,
    Detector,
    tower_knobs,
)

SMALL = {name: value for name, value in QUICK.items() if name != "head_convs"}


@learner(
    "sepc",
    title="A detector that convolves over the levels of its pyramid",
    verb="build",
    paper="2005.03101",
    cost="trains one detector; fusion=full takes about twice as long as a plain head on a CPU",
    verified="tests/layers/pyramid/test_pconv_parity.py",
    training=TRAINING,
    presets={
        "quick": SMALL | {"fusion": "lite", "pconvs": 1},
        "standard": {},
        "best": {"fusion": "full", "pconvs": 4, "width": 96, "max_epochs": 120},
    },
)
class SEPCDetector(Detector):
    """Find objects with kernels that all levels of a pyramid share, across levels.

    The paper's head has 4 pyramid convolutions and deforms all (`fusion="full"`, the preset
    `best`). By default there are 2 plain ones, as many convolutions deep as the other detectors'
    towers, and the branches deform (`lite`): deformable sampling has no kernel of its own on a CPU.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = tuple(
        one for one in Detector.shared_knobs if one is not tower_knobs
    )
    head_convs = 0  # the pyramid convolutions stand in their place

    def __init__(
        self,
        *,
        fusion: Annotated[
            Literal["pconv", "ibn", "lite", "full"],
            Knob("pconv: plain; ibn: with integrated batch norm; lite: the branches sample where "
                 "they say themselves; full: the pyramid convolutions too"),
        ] = "lite",
        pconvs: Annotated[int, Knob("pyramid convolutions, the paper has 4", ge=1, le=8)] = 2,
        levels_norm: Annotated[
            Literal["ibn", "group"],
            Knob("norm of levels: integrated batch norm, or group norm for less than 4 pictures "
                 "a step"),
        ] = "ibn",
    ) -> None:  # fmt: skip
        """Pyramid convolutions between an FPN and the last convolutions of a head."""

    def build_neck(self, channels: list[int], width: int) -> nn.Module:
        """An FPN and a `SEPC`: the maps of the backbone -> levels for classes, and for boxes."""
        if self.fusion == "pconv" and self.levels_norm != "ibn":
            raise KnobError(
                f"fusion=pconv has no norm, got levels_norm={self.levels_norm}; take fusion=ibn"
            )
        return nn.Sequential(
            FPN(channels, width, self.levels),
            SEPC(width, depth=self.pconvs, fusion=self.fusion, norm=self.levels_norm),
        )
