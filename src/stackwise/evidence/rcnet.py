"""Does one reverse pass do as well as two, and does it help that all levels meet?

One detector (residual backbone, FCOS's head of two convolutions a tower), of which the neck alone
differs, five levels, plain 3x3 convolutions and batch norm in all of them:

    none             laterals only
    FPN              coarse to fine
    PAN              coarse to fine, then fine to coarse
    RevFP            fine to coarse, once, each level with both neighbours
    RCNet            RevFP, then all levels meet
    no wrap          RCNet whose levels are no ring
    deformable       RCNet with deformable convolutions in its nodes, as the released models have

on composed scenes of 96 x 96, digits of 10 to 72 pixels, all of one class. The paper compares
deformable nodes with a plain FPN: which of both helps is the question that it leaves open.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from stackwise.build.rcnet import RCNetDetector
from stackwise.evidence.claims import Claim, Scale
from stackwise.evidence.detector_fits import DetectorFits, Pairs, fitted, scenes_of
from stackwise.evidence.pictures import dots, numbers_of
from stackwise.layers.pyramid import FPN, PAN, Laterals
from stackwise.tasks.detection.baselines.necks import FPNDetector, LateralDetector, PANDetector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": (0,), "train": 8, "test": 6, "epochs": 1, "batch": 4, "wide": (4, 16),
              "one_class": True},
    "cpu": {"seeds": (0, 1, 2), "train": 400, "test": 200, "epochs": 5, "batch": 8,
            "wide": (12, 32), "one_class": True, "leave": ("no wrap", "deformable")},
    "gpu": {"seeds": (0, 1, 2), "train": 4000, "test": 1000, "epochs": 30, "batch": 16,
            "wide": (32, 96), "one_class": False},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "A few scenes and one seed: this only shows that the measurement runs.",
    "cpu": "Scenes of 96 x 96 with digits of one class, narrow networks from scratch, 250 steps; "
    "the paper has COCO at 1333 x 800, a pretrained ResNet-50 and 12 epochs over 118,000 pictures. "
    "Levels without a ring and deformable nodes are left out.",
    "gpu": "Composed scenes of 96 x 96; COCO is not packaged.",
}


class NormedLaterals(LateralDetector):
    """Laterals with the norm that RCNet's have."""

    def build_neck(self, channels: list[int], width: int) -> nn.Module:
        """`Laterals` with batch norm, and levels that are pooled."""
        return Laterals(channels, width, self.levels, norm="batch", extra="pool")


class NormedFPN(FPNDetector):
    """FPN with batch norm."""

    def build_neck(self, channels: list[int], width: int) -> nn.Module:
        """`FPN` with batch norm."""
        return FPN(channels, width, self.levels, norm="batch")


class NormedPAN(PANDetector):
    """PAN with batch norm."""

    def build_neck(self, channels: list[int], width: int) -> nn.Module:
        """`PAN` with batch norm."""
        return PAN(channels, width, self.levels, norm="batch")


def learners(settings: dict[str, Any]) -> dict[str, Any]:
    """What builds each detector: name -> (random_state=) -> a learner."""
    narrow, width = settings["wide"]
    budget: dict[str, Any] = {
        "backbone_width": narrow, "width": width, "finest": 8, "levels": 5, "augment": "none",
        "max_epochs": settings["epochs"], "batch_size": settings["batch"], "min_steps": 0,
        "head_convs": 2, "lr": 4e-3, "threads": 1,
    }  # fmt: skip
    ours = partial(RCNetDetector, **budget)
    return {
        "none": partial(NormedLaterals, **budget),
        "FPN": partial(NormedFPN, **budget),
        "PAN": partial(NormedPAN, **budget),
        "RevFP": partial(ours, fusion="revfp"),
        "RCNet": ours,
        "no wrap": partial(ours, wrap=False),
        "deformable": partial(ours, conv="deform"),
    }


def measure(scale: Scale) -> list[Claim]:
    """The claims of RCNet."""
    settings = SETTINGS[scale]
    seeds, one_class = settings["seeds"], settings["one_class"]
    train, test = (
        {s: scenes_of(settings[part], part, s, one_class=one_class) for s in seeds}
        for part in ("train", "test")
    )
    builds = {
        name: build for name, build in learners(settings).items()
        if name not in settings.get("leave", ())
    }  # fmt: skip
    fits = {name: fitted(build, train, {"test": test}) for name, build in builds.items()}
    return _claims(fits, list(seeds), LEFT_OUT[scale])


def _claims(fits: dict[str, DetectorFits], seeds: list[int], about: str) -> list[Claim]:
    pairs = Pairs(fits, seeds, about)
    pairs.compared(
        "fusing-helps", "FPN beats laterals alone by a point.", "FPN", "none", margin=1.0
    )
    pairs.compared("one-pass-is-enough", "RevFP is level with FPN or better.", "RevFP", "FPN")
    pairs.compared(
        "level-with-two-passes", "RevFP is within half a point of PAN, in half the steps that wait "
        "for each other.",
        "RevFP", "PAN", margin=-0.5,
    )  # fmt: skip
    pairs.compared(
        "meeting-helps", "RCNet beats RevFP alone by 0.3 points.", "RCNet", "RevFP", margin=0.3
    )
    pairs.compared(
        "beats-fpn-with-plain-convolutions",
        "RCNet with plain convolutions beats FPN by a point: its gain is not that of deformable "
        "convolutions.",
        "RCNet", "FPN", margin=1.0,
    )  # fmt: skip
    pairs.compared("a-ring-helps", "Levels in a ring beat levels that end.", "RCNet", "no wrap")
    pairs.compared(
        "deformable-nodes-help", "Deformable convolutions in the nodes help RCNet.",
        "deformable", "RCNet",
        why="Offsets begin at zero and have a few hundred steps to learn.",
    )  # fmt: skip
    return pairs.claims


def picture(record: dict[str, Any]) -> "Figure":
    """AP on composed scenes of 96 x 96 with each neck, a dot a seed: with one backbone, head, rate
    and number of steps.
    """
    found = numbers_of(record, "fusing-helps")["ap_on_test"]
    return dots({name: {"": values} for name, values in found.items()}, label="AP, points")
