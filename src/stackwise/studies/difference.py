"""How sure a test part makes the order of two methods: draw its rows again and again.

An interval over seeds says how much luck is in the training; a method without randomness has none.
It does not say how much luck is in the test rows. Both methods are scored on the same drawn rows,

    share of draws in which the winner's mean score over seeds is the better one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stackwise.runs import Run
from stackwise.studies.ranking import method_of

DRAWS = 200


def chances_better(
    finished: Sequence[Run], task: Any, method: str, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, float]:
    """For each other method, the share of resampled test parts on which `method` is better.

    A draw on which the two are equal counts half.
    """
    scorers: dict[str, list[Callable[[np.ndarray], float]]] = {}
    for run in finished:
        count, scorer = task.resampled(run)
        scorers.setdefault(method_of(run.record), []).append(scorer)
    generator = np.random.default_rng(seed)
    found = {name: np.empty(draws) for name in scorers}
    for draw in range(draws):
        rows = generator.integers(count, size=count)
        for name, seeds in scorers.items():
            found[name][draw] = np.mean([scorer(rows) for scorer in seeds])
    sign = 1.0 if task.metric.mode == "min" else -1.0
    return {
        name: float(np.mean(np.sign(sign * (scores - found[method])) / 2 + 0.5))
        for name, scores in found.items()
        if name != method
    }
