"""How sure a comparison is: draw its test rows and its seeds again and again.

A score is one of many that might have come: other rows might have been held out, and other seeds
might have set the weights. A draw takes as many of both as there are, with replacement; all methods
are scored on the same rows, and each is its mean score over its own drawn seeds. From these

    interval(m)    = 2.5 and 97.5 percentiles of the draws of m
    chance(a, b)   = share of draws in which a is the better one

The first has width also with one seed, or for a method without randomness, and stays within the
metric's range. It holds what the rows do to all methods alike, which the second does not: intervals
that overlap may well be of methods that are told apart.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stackwise.files import believing
from stackwise.runs import Run
from stackwise.studies.ranking import method_of

DRAWS = 200
LEAST = 20
REACH = (0.025, 0.975)
OVER = "test rows and seeds drawn again"
"""What the intervals are over, for a reader; those of older studies are over seeds alone."""


def drawn_scores(
    finished: Sequence[Run],
    task: Any,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    seconds: float | None = None,
) -> dict[str, np.ndarray]:
    """(draws,) deciding scores of each method on test rows and seeds that are drawn again.

    Args:
        seconds: that it may take: fewer draws are made then, but some.
    """
    began = time.monotonic()
    scorers: dict[str, list[Callable[[np.ndarray], float]]] = {}
    count = 0
    for run in finished:
        with believing(run.folder):
            count, scorer = task.resampled(run)
        scorers.setdefault(method_of(run.record), []).append(scorer)
    if count == 0:
        return {}
    of_rows, of_seeds = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    found: dict[str, list[float]] = {name: [] for name in scorers}
    for draw in range(draws):
        rows = of_rows.integers(count, size=count)
        for name, each in scorers.items():
            scores = np.array([scorer(rows) for scorer in each])
            found[name].append(scores[of_seeds.integers(len(each), size=len(each))].mean())
        if seconds is not None and draw + 1 >= LEAST and time.monotonic() - began > seconds:
            break
    return {name: np.array(scores) for name, scores in found.items()}


def intervals(drawn: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each method's score; of one whose draws are all alike there is none."""
    found = {}
    for name, scores in drawn.items():
        known = scores[np.isfinite(scores)]
        if len(known) and known.min() < known.max():
            low, high = np.quantile(known, REACH)
            found[name] = (float(low), float(high))
    return found


def chances_better(drawn: Mapping[str, np.ndarray], method: str, mode: str) -> dict[str, float]:
    """For each other method, the share of draws on which `method` is better.

    A draw on which the two are equal counts half, one on which either has no score not at all.

    Args:
        mode: "min" or "max", the better side of the score.
    """
    sign = 1.0 if mode == "min" else -1.0
    found = {}
    for name, scores in drawn.items():
        apart = np.sign(sign * (scores - drawn[method]))
        known = apart[np.isfinite(apart)]
        if name != method and len(known):
            found[name] = float(np.mean(known / 2 + 0.5))
    return found
