"""Detectors side by side on composed scenes: the same pictures, steps, rate and seeds for all.

A seed makes new scenes of all parts (digits and photographs of the test are new in each), sets the
first weights and the order of training. Nothing is chosen: every detector learns for so many epochs
and its last state is kept. Test scenes are used once a detector and seed.

AP of small models is noisy, so detectors are compared in pairs: a difference a seed, and an
interval of their mean by a bootstrap over the test scenes of every seed, the same for both.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch

from stackwise import data
from stackwise.data.annotated_scenes import composed_scenes, photographs
from stackwise.evidence.claims import Claim, judge
from stackwise.tasks.detection.boxes import Boxes
from stackwise.tasks.detection.estimators.detector import Detector
from stackwise.tasks.detection.results.precision import average_precision
from stackwise.tasks.detection.results.resampling import resampled_precision

SIDE = 96
DRAWS = 200
"""Of the bootstrap."""
Scenes = tuple[list[np.ndarray], list[Any]]


@dataclass
class DetectorFits:
    """What one detector did over the seeds.

    Attributes:
        parameters: of the network. mmac: million multiplications of one scene, as torch counts
            convolutions and products of matrices (sampling is not among them).
        cpu_seconds: of learning, by seed. scores: by test set, each score in points, by seed.
        again: by test set, a seed each: (places of scenes) -> AP in points.
    """

    parameters: int = 0
    mmac: float = 0.0
    cpu_seconds: list[float] = field(default_factory=list)
    scores: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    again: dict[str, list[Callable[[np.ndarray], float]]] = field(default_factory=dict)
    counts: dict[str, list[int]] = field(default_factory=dict)

    def ap(self, test: str = "test", score: str = "ap") -> list[float]:
        """A score in points, by seed."""
        return [round(one[score], 2) for one in self.scores[test]]


def scenes_of(
    count: int, part: str, seed: int, *, sizes: tuple[int, int] = (10, 72), one_class: bool = True
) -> Scenes:
    """`count` scenes with one to four digits.

    Args:
        sizes: least and greatest longer side of a digit, in pixels.
        one_class: every digit is of the class "digit", so that all there is to learn is where
            things are and how large; else ten classes.
    """
    digits, labels, grounds = _material()
    names = np.array(["digit"] * len(labels)) if one_class else labels
    return composed_scenes(
        digits, names, grounds, count, part=part, side=SIDE, sizes=sizes, seed=seed
    )


@cache
def _material() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Digits (n, 28, 28), what they are, and photographs."""
    digits, labels = data.images("mnist-5k")
    return digits.reshape(-1, 28, 28), labels, photographs()


def fitted(
    build: Callable[..., Detector],
    train: Mapping[int, Scenes],
    tests: Mapping[str, Mapping[int, Scenes]],
) -> DetectorFits:
    """Fit a detector on the scenes of every seed, and score it on test sets.

    Args:
        build: takes `random_state` and gives a learner that is not fitted.
    """
    done = DetectorFits()
    for seed, (pictures, truth) in train.items():
        learner = build(random_state=seed)
        began = time.process_time()
        learner.fit(pictures, truth, image_size=SIDE)
        done.cpu_seconds.append(round(time.process_time() - began, 1))
        for name, sets in tests.items():
            shown, wanted = sets[seed]
            found = learner.answers(shown)
            known = [Boxes(boxes, labels, np.zeros(len(boxes), bool)) for boxes, labels in wanted]
            scores = average_precision(known, found)
            done.scores.setdefault(name, []).append({k: 100 * v for k, v in scores.items()})
            done.again.setdefault(name, []).append(resampled_precision(known, found))
            done.counts.setdefault(name, []).append(len(shown))
    done.parameters = sum(one.numel() for one in learner.network_.parameters())
    done.mmac = multiplications(learner.network_)
    return done


def multiplications(network: torch.nn.Module) -> float:
    """Million multiplications of one scene."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 3, SIDE, SIDE))
    return round(counter.get_total_flops() / 2 / 1e6, 1)


def ahead(
    ours: DetectorFits, others: DetectorFits, test: str = "test", *, draws: int = DRAWS
) -> tuple[list[float], list[float]]:
    """By how many points of AP ours is ahead, by seed; and a 95 % interval of the mean."""
    points = [round(a - b, 2) for a, b in zip(ours.ap(test), others.ap(test), strict=True)]
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(draws):
        one = []
        for mine, other, count in zip(
            ours.again[test], others.again[test], ours.counts[test], strict=True
        ):
            rows = rng.integers(0, count, count)
            one.append(100 * (mine(rows) - other(rows)))
        drawn.append(float(np.mean(one)))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return points, [round(float(low), 2), round(float(high), 2)]


@dataclass
class Pairs:
    """Claims that one detector is ahead of another, all from the same fits.

    Attributes:
        seeds: of the fits. about: the scale, for every claim. claims: those that were made.
    """

    fits: Mapping[str, DetectorFits]
    seeds: list[int]
    about: str
    claims: list[Claim] = field(default_factory=list)

    def compared(
        self, id: str, statement: str, ours: str, other: str, *, margin: float = 0.0, why: str = ""
    ) -> None:
        """Claim it, where both were fitted. The first claim has the table of all detectors too.

        Args:
            margin: points that ours must be ahead by. why: said where it does not hold.
        """
        if not {ours, other} <= set(self.fits):
            return
        points, interval = ahead(self.fits[ours], self.fits[other])
        numbers: dict[str, Any] = {
            "points_by_seed": points, "points": round(sum(points) / len(points), 2),
            "interval_95_percent": interval, "margin": margin,
        }  # fmt: skip
        if not self.claims:
            numbers |= table_of(self.fits)
        verdict = judge(points, margin=margin)
        reason = f" {why}" if why and verdict != "holds" else ""
        self.claims.append(Claim(id, statement, verdict, numbers, self.seeds, self.about + reason))


def table_of(fits: Mapping[str, DetectorFits]) -> dict[str, Any]:
    """All detectors of a comparison, as numbers of a claim."""
    tests: Sequence[str] = list(next(iter(fits.values())).scores)
    return {
        **{
            f"{score}_on_{test}": {name: done.ap(test, score) for name, done in fits.items()}
            for test in tests
            for score in ("ap", "ap50")
        },
        "parameters": {name: done.parameters for name, done in fits.items()},
        "million_multiplications": {name: done.mmac for name, done in fits.items()},
        "cpu_seconds_to_learn": {name: done.cpu_seconds for name, done in fits.items()},
    }
