"""The detectors that a new neck is measured against: no fusion, FPN and PAN."""

from torch import nn

from stackwise.catalog import baseline
from stackwise.layers.pyramid import FPN, PAN, Laterals
from stackwise.tasks.detection.estimators.detector import QUICK, TRAINING, Detector

PRESETS = {"quick": QUICK, "standard": {}, "best": {"width": 96, "max_epochs": 120}}


@baseline("no-fusion-detector", title="A detector whose levels do not see each other",
          training=TRAINING, presets=PRESETS)  # fmt: skip
class LateralDetector(Detector):
    """A one-stage detector, each level of which looks for itself."""

    def __init__(self) -> None: ...

    def build_neck(self, channels: list[int], width: int) -> nn.Module:
        """`Laterals`."""
        return Laterals(channels, width, self.levels)


@baseline("fpn-detector", title="A detector with a feature pyramid (FPN)", training=TRAINING,
          presets=PRESETS)  # fmt: skip
class FPNDetector(Detector):
    """A one-stage detector; coarse levels tell fine ones what they see."""

    def __init__(self) -> None: ...

    def build_neck(self, channels: list[int], width: int) -> nn.Module:
        """`FPN`."""
        return FPN(channels, width, self.levels)


@baseline("pan-detector", title="A detector with FPN and a way back (PAN)", training=TRAINING,
          presets=PRESETS)  # fmt: skip
class PANDetector(Detector):
    """A one-stage detector; its levels tell each other what they see, down and up."""

    def __init__(self) -> None: ...

    def build_neck(self, channels: list[int], width: int) -> nn.Module:
        """`PAN`."""
        return PAN(channels, width, self.levels)
