"""From what a learner answers to what is done: a threshold between two classes, an interval.

Both are learned from the answers that a run gave on its validation rows (out of fold where it is
bagged), never from test rows:

    threshold    the class is the second one where its probability p(x) >= t; t is the middle
                 between two neighbouring probabilities that makes the metric best
    interval     y(x) - q to y(x) + q, where q is the k-th smallest |y_i - y(x_i)| of n rows,
                 k = ceil((n + 1) c)                                                     (eq. 1)

By (eq. 1) an interval holds the truth of a new row with a probability of at least c, where the new
row and the validation rows are exchangeable (split conformal prediction: arXiv 1604.04173,
algorithm 2). Early stopping and the choice of a winner have seen those rows too, which makes the
intervals a little too short; so does a time that goes on.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError
from stackwise.learning.metrics import metric_for
from stackwise.protocols import RunLike

MOST_THRESHOLDS = 400
"""Thresholds that are tried; of more, this many quantiles of the probabilities."""


@dataclass(frozen=True)
class Decision:
    """What is done with answers. threshold: of the second class. reach: half an interval."""

    threshold: float | None = None
    reach: float | None = None

    def on(self, learner: Any, answers: pd.DataFrame) -> pd.DataFrame:
        """The answers with the class that the threshold gives, or with `low` and `high`."""
        if self.threshold is not None:
            second = answers[f"probability_{learner.classes_[1]}"].to_numpy() >= self.threshold
            answers = answers.assign(prediction=np.asarray(learner.classes_)[second.astype(int)])
        if self.reach is not None:
            value = answers["prediction"]
            answers = answers.assign(low=value - self.reach, high=value + self.reach)
        return answers


def decision_of(
    learner: Any,
    run: RunLike | None,
    *,
    threshold: float | None = None,
    threshold_for: str | None = None,
    interval: float | None = None,
) -> Decision:
    """What was asked for, learned from the run's validation rows where that is needed.

    Raises:
        DataError: it cannot be had of this learner or these rows; the sentence says why.
    """
    if threshold is None and threshold_for is None and interval is None:
        return Decision()
    classes = getattr(learner, "classes_", None)
    for_two = threshold is not None or threshold_for is not None
    if for_two and (classes is None or len(classes) != 2):
        many = "a number is predicted" if classes is None else f"there are {len(classes)}"
        raise DataError(f"a threshold decides between two classes, and {many} here")
    if for_two and not hasattr(learner, "predict_proba"):
        raise DataError(
            f"a threshold is one of probabilities, and this {type(learner).__name__} has none"
        )
    if threshold is not None and threshold_for is not None:
        raise DataError("give a threshold, or a metric that it is chosen for, not both")
    if interval is not None and classes is not None:
        raise DataError("an interval is for a number, and classes are predicted here")
    if threshold is not None:
        return Decision(threshold=threshold)
    if run is None:
        raise DataError(
            "a threshold for a metric and an interval are learned from a run's validation rows; "
            "name a run or a study"
        )
    if threshold_for is not None:
        return Decision(threshold=best_threshold(run, learner, threshold_for))
    assert interval is not None
    return Decision(reach=reach_of(run, interval))


def best_threshold(run: RunLike, learner: Any, metric: str) -> float:
    """The probability of the second class from which on a row is taken for it.

    Args:
        metric: by its name; one that reads classes and not probabilities.
    """
    scored = metric_for("binary", metric)
    if scored.needs_probability or scored.function is None:
        raise DataError(f"{scored.name} is read off probabilities: no threshold changes it")
    table = run.predictions_on("validation")
    truth = (table["target"].astype(str) == str(learner.classes_[1])).to_numpy().astype(int)
    positive = table[f"probability_{learner.classes_[1]}"].to_numpy(dtype=np.float64)
    known = np.unique(positive)
    if len(known) > MOST_THRESHOLDS:
        known = np.unique(np.quantile(known, np.linspace(0, 1, MOST_THRESHOLDS)))
    tried = np.unique(np.append((known[1:] + known[:-1]) / 2, 0.5))
    sign = 1 if scored.mode == "max" else -1
    scores = [sign * scored.function(truth, (positive >= t).astype(int)) for t in tried]
    best = np.flatnonzero(np.isclose(scores, np.nanmax(scores), rtol=0, atol=1e-12))
    return float(tried[best[np.abs(tried[best] - 0.5).argmin()]])


def reach_of(run: RunLike, coverage: float) -> float:
    """Half the width of intervals that hold this share of the truths (eq. 1)."""
    table = run.predictions_on("validation")
    errors = np.sort(np.abs(table["target"] - table["prediction"]).to_numpy(dtype=np.float64))
    place = math.ceil((len(errors) + 1) * coverage)
    if place > len(errors):
        most = len(errors) / (len(errors) + 1)
        raise DataError(
            f"{len(errors)} validation rows are too few for an interval of {coverage:g}; they "
            f"allow at most {most:.3g}"
        )
    return float(errors[place - 1])
