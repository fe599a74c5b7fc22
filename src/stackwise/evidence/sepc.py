"""Does a head learn more when it convolves over the levels of its pyramid?

One detector (residual backbone, FPN, FCOS's head), of which the head's towers alone differ:

    head         two 3x3 convolutions in each tower
    deep head    four of them: as many weights as two pyramid convolutions and the branches
    pconv        two pyramid convolutions for both branches, one convolution a branch, no norm
    ibn          the same with integrated batch norm
    lite         the branches deform
    full         the pyramid convolutions deform too

on composed scenes of 96 x 96, digits of 10 to 72 pixels, all of one class. A second measurement has
digits of 24 to 48 pixels to learn from, and smaller and larger ones in the test: what a kernel that
is shared over levels should carry over. Time leaves it out at the scale `cpu`.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from stackwise.build.sepc import SEPCDetector
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.detector_fits import DetectorFits, Pairs, fitted, scenes_of
from stackwise.evidence.pictures import dots, numbers_of
from stackwise.tasks.detection.baselines.necks import FPNDetector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": (0,), "train": 8, "test": 6, "epochs": 1, "batch": 4, "wide": (4, 8),
              "transfer": ("head", "ibn"), "one_class": True},
    "cpu": {"seeds": (0, 1, 2), "train": 400, "test": 200, "epochs": 5, "batch": 8,
            "wide": (12, 24), "transfer": (), "one_class": True},
    "gpu": {"seeds": (0, 1, 2), "train": 4000, "test": 1000, "epochs": 30, "batch": 16,
            "wide": (32, 96), "transfer": ("head", "deep head", "ibn", "lite"), "one_class": False},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "A few scenes and one seed: this only shows that the measurement runs.",
    "cpu": "Scenes of 96 x 96 with digits of one class, narrow networks from scratch, 250 steps; "
    "the paper has COCO at 1333 x 800, a pretrained ResNet-50 and 12 epochs over 118,000 pictures.",
    "gpu": "Composed scenes of 96 x 96; COCO is not packaged.",
}
SMALLER, LARGER = "12 to 24 pixels", "48 to 90 pixels"
SIZES = {SMALLER: (12, 24), LARGER: (48, 90), "24 to 48 pixels": (24, 48)}


def learners(settings: dict[str, Any]) -> dict[str, Any]:
    """What builds each detector: name -> (random_state=) -> a learner."""
    narrow, width = settings["wide"]
    budget: dict[str, Any] = {
        "backbone_width": narrow, "width": width, "finest": 8, "levels": 4, "augment": "none",
        "max_epochs": settings["epochs"], "batch_size": settings["batch"], "min_steps": 0,
        "lr": 4e-3, "threads": 1,
    }  # fmt: skip
    ours = partial(SEPCDetector, pconvs=2, **budget)
    return {
        "head": partial(FPNDetector, head_convs=2, **budget),
        "deep head": partial(FPNDetector, head_convs=4, **budget),
        "pconv": partial(ours, fusion="pconv"),
        "ibn": partial(ours, fusion="ibn"),
        "lite": partial(ours, fusion="lite"),
        "full": partial(ours, fusion="full"),
    }


def measure(scale: Scale) -> list[Claim]:
    """The claims of SEPC."""
    settings = SETTINGS[scale]
    seeds, one_class = settings["seeds"], settings["one_class"]
    builds = learners(settings)

    def scenes(count: int, part: str, sizes: tuple[int, int] = (10, 72)) -> Any:
        return {s: scenes_of(count, part, s, sizes=sizes, one_class=one_class) for s in seeds}

    train, test = scenes(settings["train"], "train"), scenes(settings["test"], "test")
    fits = {name: fitted(build, train, {"test": test}) for name, build in builds.items()}
    moved = {}
    if settings["transfer"]:
        middle = scenes(settings["train"], "train", (24, 48))
        others = {name: scenes(settings["test"], "test", sizes) for name, sizes in SIZES.items()}
        moved = {name: fitted(builds[name], middle, others) for name in settings["transfer"]}
    return _claims(fits, moved, list(seeds), LEFT_OUT[scale])


def _claims(
    fits: dict[str, DetectorFits], moved: dict[str, DetectorFits], seeds: list[int], about: str
) -> list[Claim]:
    pairs = Pairs(fits, seeds, about)
    pairs.compared(
        "pyramid-convolution-helps", "Plain pyramid convolutions are level with a head or better.",
        "pconv", "head",
        why="They have no norm, where the head's towers have group norm.",
    )  # fmt: skip
    pairs.compared(
        "integrated-norm-helps",
        "Integrated batch norm adds to pyramid convolutions.", "ibn", "pconv",
    )  # fmt: skip
    pairs.compared(
        "deformable-branches-help",
        "Branches that sample where they say themselves are level with plain ones, or better.",
        "lite", "ibn",
        why="Offsets begin at zero and have a few hundred steps to learn.",
    )  # fmt: skip
    pairs.compared(
        "full-beats-lite", "Deforming the pyramid convolutions too is level, to half a point.",
        "full", "lite", margin=-0.5,
        why="Offsets begin at zero and have a few hundred steps to learn.",
    )  # fmt: skip
    pairs.compared(
        "beats-a-head", "SEPC (full) beats a plain head by a point.", "full", "head", margin=1.0
    )
    pairs.compared(
        "beats-a-deep-head",
        "Pyramid convolutions with integrated norm beat a head of as many weights, which "
        "multiplies more.",
        "ibn", "deep head",
    )  # fmt: skip
    if moved:
        pairs.claims.append(_transfer(moved, seeds, about))
    return pairs.claims


def _transfer(moved: dict[str, DetectorFits], seeds: list[int], about: str) -> Claim:
    """Who keeps more of its AP on sizes that it did not learn from."""
    kept = {
        name: [
            round(100 * (small + large) / 2 / max(own, 1e-9), 1)
            for small, large, own in zip(
                fits.ap(SMALLER), fits.ap(LARGER), fits.ap("24 to 48 pixels"), strict=True
            )
        ]
        for name, fits in moved.items()
    }
    differences = [a - b for a, b in zip(kept["ibn"], kept["head"], strict=True)]
    numbers = {
        "per_cent_kept": kept,
        "differences": [round(one, 1) for one in differences],
        **{
            f"ap_on_{test}": {name: fits.ap(test) for name, fits in moved.items()} for test in SIZES
        },
    }
    return Claim(
        "carries-over-sizes",
        "Learned from digits of 24 to 48 pixels, a head of pyramid convolutions keeps more of its "
        "AP on smaller and larger ones than a plain head.",
        judge(differences), numbers, seeds, about,
    )  # fmt: skip


def picture(record: dict[str, Any]) -> "Figure":
    """AP on composed scenes of 96 x 96 with each head, a dot a seed: with one backbone, pyramid,
    rate and number of steps.
    """
    found = numbers_of(record, "pyramid-convolution-helps")["ap_on_test"]
    return dots({name: {"": values} for name, values in found.items()}, label="AP, points")
