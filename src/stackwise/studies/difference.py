"""How sure a test part makes the order of two methods: draw its rows again and again.

An interval over seeds says how much luck is in the training; a method without randomness has none.
It does not say how much luck is in the test rows. Both methods are scored on the same drawn rows,

    share of draws in which the winner's mean score over seeds is the better one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stackwise.runs import Run
from stackwise.studies.answers import answers
from stackwise.studies.ranking import method_of

DRAWS = 200


def chances_better(
    finished: Sequence[Run], task: Any, method: str, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, float]:
    """For each other method, the share of resampled test parts on which `method` is better.

    A draw on which the two are equal counts half.
    """
    truth = task.part("test")[1]
    if task.classes is not None:
        place = {name: i for i, name in enumerate(task.classes)}
        codes = np.array([place.get(name, -1) for name in truth])
        keep = codes >= 0  # a class that training lacks has no probability to score
        truth = codes[keep] if task.metric.needs_probability else truth[keep]
    else:
        keep = np.ones(len(truth), dtype=bool)
    answers: dict[str, list[np.ndarray]] = {}
    for run in finished:
        answers.setdefault(method_of(run.record), []).append(_answers(run, task)[keep])
    generator = np.random.default_rng(seed)
    found = {name: np.empty(draws) for name in answers}
    for draw in range(draws):
        rows = generator.integers(len(truth), size=len(truth))
        for name, seeds in answers.items():
            scores = [task.metric.function(truth[rows], answer[rows]) for answer in seeds]
            found[name][draw] = np.mean(scores)
    sign = 1.0 if task.metric.mode == "min" else -1.0
    return {
        name: float(np.mean(np.sign(sign * (scores - found[method])) / 2 + 0.5))
        for name, scores in found.items()
        if name != method
    }


def _answers(run: Run, task: Any) -> np.ndarray:
    """(n, C) probabilities in the order of the task's classes, or (n,) predictions."""
    if task.metric.needs_probability:
        return answers(run, "test", task)
    return run.predictions["prediction"].to_numpy()
