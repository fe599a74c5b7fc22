"""Where an alarm begins: a threshold from the scores of normal moments.

Peaks over threshold (Siffer et al. 2017): the excesses of the largest scores over their quantile t
follow a generalised Pareto distribution of shape g and scale s, so that a normal moment exceeds

    c = t + (s / g) ((q n / N)^(-g) - 1),        t - s log(q n / N) where g = 0

with probability q, N of n scores being above t.
"""

import math
import warnings
from typing import Any, Literal

import numpy as np

Threshold = Literal["pot", "quantile"]
LEAST = 10
"""Excesses that a distribution is fitted to at least."""


def threshold_of(scores: np.ndarray, how: str | float, *, level: float, risk: float) -> float:
    """The threshold from the scores of normal moments; a number is itself.

    Args:
        scores: (n,) of normal moments.
        level: the share of them that counts as peaks. risk: the chance that a normal moment is
            above the threshold; with `quantile` it is the (1 - risk) quantile.
    """
    if not isinstance(how, str):
        return float(how)
    if how == "quantile":
        return float(np.quantile(scores, 1 - risk))
    return pot(scores, level=level, risk=risk)


def pot(scores: np.ndarray, *, level: float = 0.02, risk: float = 1e-3) -> float:
    """By peaks over threshold; the (1 - risk) quantile of the scores where peaks are too few."""
    from scipy import stats

    genpareto: Any = vars(stats)["genpareto"]  # made at run time, unknown to type checkers

    scores = np.asarray(scores, dtype=np.float64)
    start = float(np.quantile(scores, 1 - level))
    excesses = scores[scores > start] - start
    share = risk * len(scores) / max(len(excesses), 1)
    plain = float(np.quantile(scores, 1 - risk))
    if len(excesses) < LEAST or share >= 1:
        return plain
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scale_of = float(excesses.mean()) or 1.0
        shape, _, scale = genpareto.fit(excesses / scale_of, floc=0)
        scale *= scale_of
    found = start - scale * math.log(share)
    if abs(shape) > 1e-9:
        found = start + scale / shape * (share ** (-shape) - 1)
    return found if math.isfinite(found) and found >= start else plain
