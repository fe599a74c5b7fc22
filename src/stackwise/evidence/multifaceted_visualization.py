"""Whether pictures that begin at mean images show more of a unit's facets than those from noise.

The paper shows pictures and no number. Here the facets are known: digits are merged into three
classes, {0, 3, 6, 9}, {1, 4, 7} and {2, 5, 8}, so that a class unit has three or four facets, and
another network, which tells all ten digits apart, says what stands on a made picture. Each of
three seeds has a third of the digits for itself: it trains both networks on half of them, parts the
others into facets, and makes as many pictures as a class has digits, in equal steps:

    from each facet's mean image    from noise    from the one mean image of the class

At the scales cpu and gpu the packaged EfficientNet-Lite0 is looked at too, over three disjoint
draws of photographs.
"""

import glob
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise import data
from stackwise.evidence.claims import Claim, judge
from stackwise.evidence.pictures import dots, numbers_of
from stackwise.layers.evaluating import in_evaluation
from stackwise.probe.multifaceted_visualization import (
    STEADY,
    find_facets,
    maximise,
    mean_images,
    total_variation,
    unit_of,
)
from stackwise.probe.multifaceted_visualization.facets import Embed
from stackwise.probe.multifaceted_visualization.inputs import Shown, shown
from stackwise.probe.multifaceted_visualization.looking import (
    codes_of,
    exciting_pictures,
    noise,
    target_of,
)
from stackwise.probe.multifaceted_visualization.making import colours
from stackwise.probe.multifaceted_visualization.units import frozen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEEDS = [0, 1, 2]
MERGED = ((0, 3, 6, 9), (1, 4, 7), (2, 5, 8))
CODES = "3"
"""The convolution whose output parts digits; behind it they are less and less told apart."""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        steps: of training each network. shown: digits that are parted. share: of the schedule.
        side: of photographs, None where the packaged network is left out. made: pictures of each
            start there. units: that are looked at. embed: in which facets are found.
    """

    steps: int
    shown: int
    share: float
    side: int | None
    made: int = 3
    units: tuple[str, ...] = ("widen:40", "widen:1000")
    embed: Embed = "tsne"


SIZES = {
    "smoke": Size(60, 60, 0.05, None, embed="none"),
    "cpu": Size(300, 240, 0.5, 80),
    "gpu": Size(1000, 450, 1.0, 224, 6),
}


def network(classes: int) -> nn.Module:
    """A small convolutional network on 8 x 8 digits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(),
        nn.Linear(64, classes),
    )  # fmt: skip


def trained(pictures: Tensor, labels: Tensor, classes: int, steps: int, seed: int) -> nn.Module:
    """The network after so many steps of Adam on 64 pictures each."""
    torch.manual_seed(seed)
    made = network(classes)
    optimiser = torch.optim.Adam(made.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(pictures), (64,), generator=generator)
        loss = functional.cross_entropy(made(pictures[rows]), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return made.eval().requires_grad_(False)


def of_draw(seed: int, size: Size) -> dict[str, list[float]]:
    """What one draw of digits shows: numbers over its units."""
    from sklearn.metrics import adjusted_rand_score

    found, digits = data.images("digits")
    order = np.random.default_rng(0).permutation(len(found))[seed :: len(SEEDS)]
    whole = torch.from_numpy(found[order]).float()[:, None] / float(found.max())
    digit = torch.from_numpy(digits[order].astype(np.int64))
    merged = torch.zeros(10, dtype=torch.long)
    for place, group in enumerate(MERGED):
        merged[list(group)] = place
    half = len(whole) // 2
    subject = trained(whole[half:], merged[digit[half:]], len(MERGED), size.steps, seed)
    judging = trained(whole[half:], digit[half:], 10, size.steps, seed + 100)
    of = shown(subject, [whole[:half]], size.shown, seed)
    its = digit[:half][torch.from_numpy(of.sources)]
    numbers: dict[str, list[float]] = {}
    for place, group in enumerate(MERGED):
        rows = torch.isin(its, torch.tensor(group)).nonzero()[:, 0]
        pictures, truth = of.pictures[rows], its[rows]
        facets = find_facets(codes_of(of, pictures, CODES), len(group), embed=size.embed, seed=seed)
        deep = find_facets(codes_of(of, pictures, "6"), len(group), embed=size.embed, seed=seed)
        starts = mean_images(pictures, facets)
        one = pictures.mean(0)[None].expand(len(group), *starts.shape[1:])
        grey = torch.stack([noise(of, 100 * seed + facet) for facet in range(len(group))])
        row = {
            "agreement": adjusted_rand_score(truth, facets.labels),
            "agreement_last_layer": adjusted_rand_score(truth, deep.labels),
        }
        unit = unit_of(f"output:{place}")
        for name, begun in (("mean", starts), ("noise", grey), ("one mean", one)):
            made = pictures_from(of, begun, unit, size.share, seed)
            with torch.no_grad():
                says = judging(made / 255).argmax(1)
                raised = subject(made / 255)[:, place] - subject(begun / 255)[:, place]
            hit = set(says.tolist()) & set(group)
            row |= {
                f"coverage_{name}": len(hit) / len(group),
                f"raised_{name}": float(raised.min()),
                f"variation_{name}": float(total_variation(made).mean()),
            }
        for name, value in row.items():
            numbers.setdefault(name, []).append(float(value))
    return numbers


def pictures_from(of: Shown, starts: Tensor, unit: Any, share: float, seed: int) -> Tensor:
    """A picture from each start, in equal steps, with the phases of the probe."""
    target, mixing = target_of(of, unit), colours(of.pictures)
    with in_evaluation(of.network), frozen(of.network):
        made = [
            maximise(target, start, STEADY, share=share, mixing=mixing, seed=100 * seed + place)
            for place, start in enumerate(starts)
        ]
    return torch.stack(made)


def photographs() -> list[str]:
    """Photographs that packages carry: of ImageNet and CIFAR, and those of scikit-learn."""
    found: list[str] = []
    for package, pattern in (
        ("foolbox", "data/imagenet_*.jpg"),
        ("foolbox", "data/cifar10*.png"),
        ("sklearn", "datasets/images/*.jpg"),
    ):
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            found += sorted(glob.glob(str(Path(root) / pattern)))
    return found


def of_photographs(seed: int, size: Size) -> dict[str, list[float]]:
    """The same of the packaged network, over a third of the photographs."""
    from stackwise.probe.multifaceted_visualization.looking import coverage, parted

    packaged = data.network("efficientnet-lite0")
    of = shown(packaged, photographs()[seed :: len(SEEDS)], 1000, seed, size.side)
    of = of.cropped(6, seed)
    numbers: dict[str, list[float]] = {}
    for name in size.units:
        unit = unit_of(name)
        with torch.no_grad():
            rows, _ = exciting_pictures(of, unit, 40, size.made)
        pictures = of.pictures[torch.from_numpy(rows)]
        facets, layer, codes = parted(
            of, pictures, ["blocks.15", "blocks.8"], size.made, n_mean=15, pca=50, embed="tsne",
            seed=seed,
        )  # fmt: skip
        starts = mean_images(pictures, facets)
        one = pictures.mean(0)[None].expand_as(starts)
        grey = torch.stack([noise(of, 100 * seed + facet) for facet in range(size.made)])
        for begin, begun in (("mean", starts), ("noise", grey), ("one mean", one)):
            made = pictures_from(of, begun, unit, size.share, seed)
            target = target_of(of, unit)
            with torch.no_grad():
                raised = min(
                    float(target(after[None], False) - target(before[None], False))
                    for after, before in zip(made, begun, strict=True)
                )
            for what, value in (
                (f"coverage_{begin}", coverage(codes, facets, codes_of(of, made, layer))),
                (f"raised_{begin}", raised),
            ):
                numbers.setdefault(what, []).append(value)
    return numbers


def measure(scale: str) -> list[Claim]:
    """Every claim at a scale."""
    size = SIZES[scale]
    draws = [of_draw(seed, size) for seed in SEEDS]

    def means(name: str) -> list[float]:
        return [float(np.mean(draw[name])) for draw in draws]

    coverage = {name: means(f"coverage_{name}") for name in ("mean", "noise", "one mean")}
    claims = [
        Claim(
            "facets-are-found",
            "Facets of merged classes, parted by the codes of a convolution, agree with the "
            "digits: adjusted Rand above 0.8.",
            judge(means("agreement"), margin=0.8),
            {
                "agreement": means("agreement"),
                "agreement_last_layer": means("agreement_last_layer"),
            },
            SEEDS,
            "The last hidden layer is measured beside it: a classifier no longer tells there what "
            "it was taught to take for one.",
        ),
        Claim(
            "mean-images-cover-more-than-noise",
            "At equal steps, pictures from the facets' mean images show a larger share of a "
            "class's digits than pictures from noise: by 0.15.",
            judge(_less(coverage["mean"], coverage["noise"]), margin=0.15),
            coverage, SEEDS,
        ),
        Claim(
            "mean-images-cover-more-than-one-mean",
            "At equal steps, they show a larger share than pictures from the one mean image of the "
            "class: by 0.15.",
            judge(_less(coverage["mean"], coverage["one mean"]), margin=0.15),
            coverage, SEEDS,
        ),
        Claim(
            "activation-rises",
            "Every picture excites its unit more than the mean image that it was made from.",
            judge([min(draw["raised_mean"]) for draw in draws]),
            {"least_rise": [min(draw["raised_mean"]) for draw in draws]}, SEEDS,
            "The worst picture of each draw counts. Likely, not measured: the schedule's "
            "denoising, set for pictures of 128 pixels and more, wears strokes of two pixels "
            "down faster than the gradient draws them.",
        ),
        Claim(
            "smoother-than-from-noise",
            "Pictures from mean images have less total variation than pictures from noise.",
            judge(_less(means("variation_noise"), means("variation_mean"))),
            {"variation": means("variation_mean"), "from_noise": means("variation_noise")}, SEEDS,
            "Pictures of strokes vary by nature; from noise the schedule keeps to a flat grey, "
            "in which the judge finds fewer digits, as measured above.",
        ),
    ]  # fmt: skip
    if size.side is None:
        return claims
    return [*claims, *_of_lite0(size)]


def _of_lite0(size: Size) -> list[Claim]:
    """The claims on the packaged network, where it and the photographs are here."""
    here = data.lacking("efficientnet-lite0", "network") is None and len(photographs()) > 40
    draws = [of_photographs(seed, size) for seed in SEEDS] if here else []

    def means(name: str) -> list[float]:
        return [float(np.mean(draw[name])) for draw in draws]

    coverage = {name: means(f"coverage_{name}") for name in ("mean", "noise", "one mean")}
    explanation = (
        f"Two units ({', '.join(size.units)}), {size.made} pictures each, at {size.side} pixels a "
        "side; a made picture belongs to the facet whose mean code is nearest."
    )
    return [
        Claim(
            "photographs-mean-images-cover-more-than-noise",
            "In EfficientNet-Lite0, pictures from the facets' mean images fall into facets of more "
            "of the exciting photographs than pictures from noise.",
            judge(_less(coverage["mean"], coverage["noise"])), coverage, SEEDS, explanation,
        ),
        Claim(
            "photographs-mean-images-cover-more-than-one-mean",
            "In EfficientNet-Lite0, they fall into facets of more of them than pictures from one "
            "mean image.",
            judge(_less(coverage["mean"], coverage["one mean"])), coverage, SEEDS, explanation,
        ),
        Claim(
            "photographs-activation-rises",
            "In EfficientNet-Lite0, every picture excites its unit more than its mean image does.",
            judge([min(draw["raised_mean"]) for draw in draws]),
            {"least_rise": [min(draw["raised_mean"]) for draw in draws]}, SEEDS,
        ),
    ]  # fmt: skip


def _less(of: Sequence[float], than: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(of, than, strict=True)]


def picture(record: dict[str, Any]) -> "Figure":
    """Share of what excites a unit that its made pictures show, by what they were made from: of
    the digits in merged classes, and of the photographs of a unit; a dot a draw.
    """
    claims = {
        "mean-images-cover-more-than-noise": "digits",
        "photographs-mean-images-cover-more-than-noise": "photographs",
    }
    names = {"mean": "each facet's mean", "one mean": "one mean", "noise": "noise"}
    known = {one["id"] for one in record["claims"]}
    shown_rows = {
        f"{words}, from {name}": {words: numbers_of(record, claim)[key]}
        for claim, words in claims.items()
        if claim in known
        for key, name in names.items()
    }
    return dots(shown_rows, label="coverage")
