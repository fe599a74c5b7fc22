"""AP over any of some pictures, with repeats: the matches of each are found once, and a draw only
weighs them.

    n_i     how often picture i was drawn
    recall after k answers of a class   = sum of n_i over the right of them / sum over objects
    precision                           = the same sum / sum of n_i over all of them
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from stackwise.tasks.detection.boxes import Answer, Boxes
from stackwise.tasks.detection.results.matching import matched

RECALLS = np.linspace(0, 1, 101)
MOST = 100
"""Answers of a picture that count."""


class _OfClass(NamedTuple):
    """The answers of a class, the surest first, and its objects.

    Attributes:
        picture: (n,) of each answer. right, counted: (T, n). objects: (m,) their pictures.
    """

    picture: np.ndarray
    right: np.ndarray
    counted: np.ndarray
    objects: np.ndarray


def resampled_precision(
    truth: Sequence[Boxes], found: Sequence[Answer]
) -> Callable[[np.ndarray], float]:
    """(places of pictures, with repeats) -> AP over them; none of the objects among them: NaN."""
    classes = [_of_class(*part) for part in _by_class(truth, found)]
    count = len(truth)

    def score(rows: np.ndarray) -> float:
        weights = np.bincount(rows, minlength=count).astype(np.float64)
        values = [_precision(one, weights) for one in classes]
        known = [value for value in values if np.isfinite(value)]
        return float(np.mean(known)) if known else float("nan")

    return score


def _by_class(truth: Sequence[Boxes], found: Sequence[Answer]):  # type: ignore[no-untyped-def]
    names = sorted({str(label) for one in truth for label in one.objects.labels})
    for name in names:
        yield (
            [one.only(np.array([str(of) == name for of in one.labels], bool)) for one in truth],
            [_only(one, name) for one in found],
        )


def _only(one: Answer, name: str) -> Answer:
    rows = np.flatnonzero([str(of) == name for of in one.labels])
    rows = rows[np.argsort(-one.scores[rows], kind="stable")][:MOST]
    return Answer(one.boxes[rows], one.scores[rows], one.labels[rows])


def _of_class(truth: Sequence[Boxes], found: Sequence[Answer]) -> _OfClass:
    matches = [matched(one, other) for one, other in zip(truth, found, strict=True)]
    scores = np.concatenate([one.scores for one in found])
    pictures = np.concatenate(
        [np.full(len(one.scores), place) for place, one in enumerate(found)]
    ).astype(int)
    objects = np.concatenate(
        [np.full(int((~one.crowd).sum()), place) for place, one in enumerate(truth)]
    ).astype(int)
    order = np.argsort(-scores, kind="mergesort")
    right = np.concatenate([one.right for one in matches], axis=1)[:, order]
    ignored = np.concatenate([one.ignored for one in matches], axis=1)[:, order]
    return _OfClass(pictures[order], right, ~ignored, objects)


def _precision(of: _OfClass, weights: np.ndarray) -> float:
    there = weights[of.objects].sum()
    if there == 0:
        return float("nan")
    drawn = weights[of.picture]
    values = []
    for right, counted in zip(of.right, of.counted, strict=True):
        hit = np.cumsum(drawn * right)
        said = np.cumsum(drawn * counted)
        recall = hit / there
        precision = np.divide(hit, said, out=np.zeros_like(hit), where=said > 0)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, RECALLS - 1e-12, side="left")
        inside = places < len(best)
        values.append(np.where(inside, best[np.minimum(places, len(best) - 1)], 0).mean()
                      if len(best) else 0.0)  # fmt: skip
    return float(np.mean(values))
