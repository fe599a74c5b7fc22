"""Adaptive classification: answer by the smallest size that is sure, else ask the next.

    stop at the first m with max_c p_m(c) > tau_m, strictly; the last size always answers

Thresholds are found on rows that were held out, for each pair of neighbouring sizes by itself:
the least of 100 even steps from 0.1 to 1 that makes "m_j if sure, else m_{j+1}" right most often.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from stackwise.errors import DataError

STEPS = np.linspace(0.1, 1.0, 100)
"""Thresholds that are tried."""


def adaptive_answers(
    probabilities: Mapping[int, np.ndarray], thresholds: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """The class of each row and the size that answered.

    Args:
        probabilities: (n, C) by size. thresholds: one for every size but the last.

    Returns:
        (n,) int64 places of classes, (n,) int64 sizes.

    Raises:
        DataError: there are not so many thresholds, or one is not from 0 to 1.
    """
    dims = sorted(probabilities)
    if len(thresholds) != len(dims) - 1:
        raise DataError(
            f"{len(thresholds)} thresholds for {len(dims)} sizes: one for each but the last"
        )
    if not all(0 <= threshold <= 1 for threshold in thresholds):
        raise DataError(f"thresholds are from 0 to 1, got {tuple(thresholds)}")
    answers = probabilities[dims[-1]].argmax(1)
    used = np.full(len(answers), dims[-1], dtype=np.int64)
    for dim, threshold in reversed(list(zip(dims[:-1], thresholds, strict=True))):
        sure = probabilities[dim].max(1) > threshold
        answers = np.where(sure, probabilities[dim].argmax(1), answers)
        used = np.where(sure, dim, used)
    return answers, used


def tune_thresholds(probabilities: Mapping[int, np.ndarray], y: np.ndarray) -> tuple[float, ...]:
    """The thresholds of every size but the last.

    Args:
        probabilities: (n, C) by size, of rows that nothing else was learned from.
        y: (n,) places of the true classes.

    Raises:
        DataError: there are no rows, or not a truth for each.
    """
    dims = sorted(probabilities)
    rows = {len(found) for found in probabilities.values()}
    if not len(y) or rows != {len(y)}:
        raise DataError(f"{len(y)} truths for {sorted(rows)} rows; thresholds need both, alike")
    found = []
    for dim, following in pairwise(dims):
        confidence = probabilities[dim].max(1)
        right = probabilities[dim].argmax(1) == y
        right_after = probabilities[following].argmax(1) == y
        sure = confidence[None] > STEPS.astype(confidence.dtype)[:, None]
        counts = np.where(sure, right, right_after).sum(1)
        found.append(float(STEPS[counts.argmax()]))  # the first of the best is the least
    return tuple(found)


def expected_dim(used: np.ndarray) -> float:
    """The mean size that answered: sum_m m P(stop at m)."""
    return float(np.mean(used))
