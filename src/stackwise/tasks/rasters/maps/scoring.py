"""How well a map of units fits a map of classes that knows other names.

Units are numbers without a meaning, so that each is first given a class, one unit a class, such
that most pixels agree (the assignment problem, solved as by the Hungarian method):

    accuracy = max over matchings m of  |{pixels : m(unit) = class}| / |{pixels}|

A unit without a class is wrong throughout, so that more units than classes bring no advantage. The
adjusted Rand index and the normalised mutual information need no matching.
"""

from typing import Any

import numpy as np

from stackwise.errors import DataError
from stackwise.learning.metrics import Metric

METRIC = Metric("accuracy", "max")
"""The score that decides: the accuracy after matching."""


def contingency(units: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(units, classes) how many pixels have each pair."""
    pairs = units.astype(np.int64) * (int(classes.max()) + 1) + classes
    counts = np.bincount(pairs, minlength=(int(units.max()) + 1) * (int(classes.max()) + 1))
    return counts.reshape(int(units.max()) + 1, int(classes.max()) + 1)


def matching(counts: np.ndarray) -> dict[int, int]:
    """The class of each unit that has one, by the places in `contingency`."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-counts)
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))


def matched_accuracy(units: np.ndarray, classes: np.ndarray) -> float:
    """The share of pixels that agree under the best matching."""
    counts = contingency(units, classes)
    return float(sum(counts[pair] for pair in matching(counts).items()) / counts.sum())


def score_map(labels: Any, reference: Any) -> dict[str, float]:
    """Every score of a map.

    Args:
        labels: whole numbers from 0, of any shape; what is negative is not scored.
        reference: classes as whole numbers, of the same shape; likewise.

    Returns:
        `accuracy` after the best matching, `adjusted_rand`, `mutual_information` (normalised by the
        arithmetic mean) and `f1`, the mean over classes under the matching.

    Raises:
        DataError: shapes differ, or no pixel is known in both.
    """
    from sklearn import metrics

    labels, reference = np.asarray(labels), np.asarray(reference)
    if labels.shape != reference.shape:
        raise DataError(f"a map of {labels.shape} has a reference of {reference.shape}")
    known = (labels >= 0) & (reference >= 0)
    if not known.any():
        raise DataError("no pixel has both a unit and a class in the reference")
    units = np.unique(labels[known], return_inverse=True)[1]
    classes = np.unique(reference[known], return_inverse=True)[1]
    pairs = matching(contingency(units, classes))
    answer = np.array([pairs.get(unit, -1) for unit in range(int(units.max()) + 1)])[units]
    return {
        METRIC.name: float((answer == classes).mean()),
        "adjusted_rand": float(metrics.adjusted_rand_score(classes, units)),
        "mutual_information": float(metrics.normalized_mutual_info_score(classes, units)),
        "f1": float(metrics.f1_score(
            classes, answer, labels=np.unique(classes), average="macro", zero_division=0
        )),
    }  # fmt: skip


def internal_scores(values: np.ndarray, units: np.ndarray, seed: int) -> dict[str, float]:
    """How well units part without any reference: Calinski and Harabasz (higher is better), Davies
    and Bouldin (lower is better), and the silhouette of at most 2,000 pixels.

    They mean something beside each other only in one space and for one number of units: here it is
    that of the scaled bands, whatever the units were found in.
    """
    from sklearn import metrics

    if len(np.unique(units)) < 2 or len(units) <= len(np.unique(units)):
        return {}
    few = np.random.default_rng(seed).permutation(len(units))[:2000]
    found = {
        "calinski_harabasz": float(metrics.calinski_harabasz_score(values, units)),
        "davies_bouldin": float(metrics.davies_bouldin_score(values, units)),
    }
    if 1 < len(np.unique(units[few])) < len(few):
        found["silhouette"] = float(metrics.silhouette_score(values[few], units[few]))
    return found
