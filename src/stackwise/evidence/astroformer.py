"""Do three stages of convolution and one of attention learn best from few pictures?

One network, `pico` with maps of 8, 4, 4 and 4 places, on 600 digits of 28 x 28:

    C-C-C-T, C-C-T-T, C-T-T-T, C-C-C-C      the layouts that the paper weighs, and no attention
    no offsets                              C-C-C-T whose attention does not know places
    regularised                             smoothing 0.1 and stochastic depth 0.1
    augmented                               mixup and two operations of RandAugment
    augmented with cutmix                   the same, and parts of other pictures pasted in

beside the residual CNN of every comparison on images, as wide as it takes to have as many
parameters, and a linear model. All have the same epochs and learning rates to choose among. Nothing
mirrors: a mirrored digit is none.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from stackwise.build.astroformer import Astroformer, AstroformerClassifier
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.picture_fits import (
    PictureFits,
    ahead,
    fitted_over_seeds,
    least_with,
    size_of,
    table_of,
)
from stackwise.evidence.pictures import dots, numbers_of
from stackwise.tasks.images.baselines.linear import LinearPixelsClassifier
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNN, ResidualCNNClassifier
from stackwise.tasks.images.estimators.augmentation import Recipe
from stackwise.tasks.images.task import ImagesTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"rows": 24, "test": 0.01, "seeds": (0,), "lrs": (2e-3,), "epochs": 1},
    "cpu": {"rows": 600, "test": 0.3, "seeds": (0, 1, 2), "lrs": (1e-3, 3e-3), "epochs": 20},
    "gpu": {"rows": 600, "test": 0.3, "seeds": (0, 1, 2, 3, 4), "lrs": (1e-3, 2e-3, 4e-3),
            "epochs": 200},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "Two dozen pictures and one seed: this only shows that the measurement runs.",
    "cpu": "600 digits and a network of 0.3 million parameters; the paper has galaxies, CIFAR and "
    "Tiny ImageNet, 150 to 680 million parameters, and one run each.",
    "gpu": "600 digits; the paper's galaxies are not packaged.",
}
BATCH = 32
FAST: dict[str, Any] = {"size": "pico", "stem_stride": 2, "strides": (2, 2, 1, 1)}
OURS, CNN, LINEAR = "C-C-C-T", "residual CNN", "linear model"


class MixedClassifier(AstroformerClassifier):
    """Mixup and RandAugment as the paper has them for little data, without mirroring."""

    cutmix = 0.0

    def recipe(self) -> Recipe:
        """Moved by the same share as those of the others, then varied and mixed."""
        return Recipe(shift=0.1, operations=2, mixup=0.8, cutmix=self.cutmix)


class PastedClassifier(MixedClassifier):
    """The same with cutmix in half of the batches."""

    cutmix = 1.0


def learners(shape: tuple[int, int, int], classes: int, epochs: int) -> dict[str, Any]:
    """What builds each network: name -> (lr=, random_state=) -> a learner."""
    channels, height, width = shape
    with torch.device("meta"):
        ours = Astroformer(channels=channels, image_size=(height, width), n_outputs=classes, **FAST)
        cnn = least_with(
            size_of(ours), range(8, 64),
            lambda width: ResidualCNN(channels=channels, n_outputs=classes, width=width),
        )  # fmt: skip
    budget: dict[str, Any] = {"max_epochs": epochs, "batch_size": BATCH, "threads": 1}
    plain = FAST | budget | {"drop_path": 0.0, "smoothing": 0.0}
    layouts = {
        name: partial(AstroformerClassifier, layout=name, **plain)
        for name in (OURS, "C-C-T-T", "C-T-T-T", "C-C-C-C")
    }
    return layouts | {
        "no offsets": partial(AstroformerClassifier, relative="none", **plain),
        "regularised": partial(
            AstroformerClassifier, **plain | {"drop_path": 0.1, "smoothing": 0.1}
        ),
        "augmented": partial(MixedClassifier, **plain),
        "augmented with cutmix": partial(PastedClassifier, **plain),
        CNN: partial(ResidualCNNClassifier, width=cnn, n_blocks=1, **budget),
    }


def measure(scale: Scale) -> list[Claim]:
    """The claims of Astroformer."""
    settings = SETTINGS[scale]
    seeds = settings["seeds"]
    tasks = {
        seed: ImagesTask.load(
            "mnist-5k", split_seed=seed, validation=0.01 if scale == "smoke" else 0.1,
            test=settings["test"], max_rows=settings["rows"],
        )
        for seed in seeds
    }  # fmt: skip
    task = tasks[seeds[0]]
    assert task.classes is not None
    fits = {
        name: fitted_over_seeds(build, tasks, settings["lrs"])
        for name, build in learners(task.shape, len(task.classes), settings["epochs"]).items()
    }
    linear = [_linear(seed, tasks[seed]) for seed in seeds]
    return _claims(fits, linear, list(seeds), LEFT_OUT[scale])


def _linear(seed: int, task: ImagesTask) -> float:
    """Test accuracy of the linear model, whose penalty is cross-validated, in per cent."""
    made = LinearPixelsClassifier(random_state=seed, folds=2, max_steps=100)
    task.fit(made)
    return round(100 * task.judge(made, "test").scores["accuracy"], 2)


def _claims(
    fits: dict[str, PictureFits], linear: list[float], seeds: list[int], about: str
) -> list[Claim]:
    claims: list[Claim] = []

    def compared(
        id: str,
        statement: str,
        points: list[float],
        *,
        margin: float = 0.0,
        numbers: dict[str, Any] | None = None,
        why: str = "",
    ) -> None:
        found = {"points_by_seed": points, "points": round(sum(points) / len(points), 2)}
        if not claims:  # once is enough
            found |= table_of(fits) | {"test_accuracy_percent_linear": linear}
        verdict = judge(points, margin=margin)
        reason = f" {why}" if why and verdict != "holds" else ""
        claims.append(
            Claim(id, statement, verdict, found | {"margin": margin} | (numbers or {}), seeds,
                  about + reason)
        )  # fmt: skip

    def layout(name: str) -> list[float]:
        return ahead(fits[OURS], fits[name])

    compared(
        "one-stage-of-attention-beats-two",
        "On few pictures C-C-C-T beats CoAtNet's C-C-T-T.", layout("C-C-T-T"),
        why="On maps of 4 x 4 places a 3 x 3 convolution and attention see nearly as much, and "
        "C-C-T-T has 4 % more parameters.",
    )  # fmt: skip
    compared(
        "one-stage-of-attention-beats-three",
        "On few pictures C-C-C-T beats C-T-T-T by half a point.", layout("C-T-T-T"), margin=0.5,
    )  # fmt: skip
    compared(
        "attention-helps", "C-C-C-T beats C-C-C-C, which has no attention.", layout("C-C-C-C"),
        why="A 3 x 3 convolution on a last map of 4 x 4 places misses little of it.",
    )  # fmt: skip
    compared(
        "offsets-help", "Attention that knows offsets beats attention that does not.",
        layout("no offsets"),
        why="Three stages of convolution have told every place where it is, by its zeros outside.",
    )  # fmt: skip
    plain = fits[OURS]
    augmented, regularised = (ahead(fits[n], plain) for n in ("augmented", "regularised"))
    compared(
        "augmentation-helps", "Mixup and RandAugment win 1 point over pictures that only move.",
        augmented, margin=1.0, why="Twenty epochs are few for pictures that are never the same.",
    )  # fmt: skip
    compared(
        "augmentation-helps-more-than-regularisation",
        "Strong augmentation wins more than smoothed labels and stochastic depth.",
        [round(a - b, 2) for a, b in zip(augmented, regularised, strict=True)],
        numbers={"points_of_regularisation": regularised},
    )
    compared(
        "hiding-parts-costs", "Cutmix beside mixup costs accuracy, since a part is not the whole.",
        ahead(fits["augmented"], fits["augmented with cutmix"]),
        why="The paper says so of galaxies; a part of a digit may still tell it.",
    )  # fmt: skip
    compared(
        "beats-a-residual-cnn",
        "It beats a small residual CNN of equal parameters and epochs.", layout(CNN),
    )  # fmt: skip
    compared(
        "beats-a-linear-model", "It beats a linear model on pixels by 2 points.",
        [round(a - b, 2) for a, b in zip(plain.accuracy, linear, strict=True)], margin=2.0,
    )  # fmt: skip
    return claims


def picture(record: dict[str, Any]) -> "Figure":
    """Test accuracy after training on 600 digits, a dot a seed: all networks have the same epochs
    and learning rates to choose among, and about as many parameters.
    """
    numbers = numbers_of(record, "one-stage-of-attention-beats-two")
    found = numbers["test_accuracy_percent"] | {LINEAR: numbers["test_accuracy_percent_linear"]}
    return dots({name: {"": values} for name, values in found.items()}, label="test accuracy, %")
