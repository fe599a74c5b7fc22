"""Which columns a fitted learner uses."""

import time
import warnings
from typing import Any

import numpy as np

from stackwise.tasks.labelled.answers import predict_once
from stackwise.tasks.table.reading.columns import USED

FEWEST_ROWS = 50


def permutation_importance(
    learner: Any,
    task: Any,
    *,
    rows: int = 1000,
    repeats: int = 3,
    seed: int = 0,
    seconds: float | None = None,
) -> list[dict[str, Any]]:
    """How much worse the score gets when a column is shuffled, on validation rows.

    Args:
        seconds: that it may take: fewer repeats are made then, on fewer rows; none of it where that
            is too little.

    Returns:
        `column`, `mean` and `std` over repeats, in units of the metric; largest first. Positive
        means that the model uses the column. Columns of which nothing is used are left out.
    """
    used = {item["column"] for item in task.columns_of(learner) if item["kind"] in USED}
    X, y = task.part("validation")
    generator = np.random.default_rng(seed)
    picked = generator.permutation(len(X))[:rows]
    X, y = X.iloc[picked].reset_index(drop=True), y[picked]
    sign = 1.0 if task.metric.mode == "min" else -1.0

    def worse(frame: Any) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # values that training lacks
            answers = predict_once(learner, frame)
        return sign * float(task.score(y, *answers)[task.metric.name])

    began = time.monotonic()
    base = worse(X)
    if seconds is not None:
        once = (time.monotonic() - began) * X.shape[1]
        repeats = max(min(repeats, int(seconds / once)), 1)
        fitting = int(len(X) * min(seconds / once, 1.0))
        if fitting < min(FEWEST_ROWS, len(X)):
            return []
        if fitting < len(X):
            X, y = X.iloc[:fitting], y[:fitting]
            base = worse(X)
    found = []
    for column in [column for column in X.columns if str(column) in used]:
        drops = []
        for _ in range(repeats):
            shuffled = X.copy()
            shuffled[column] = X[column].to_numpy()[generator.permutation(len(X))]
            drops.append(worse(shuffled) - base)
        found.append(
            {"column": str(column), "mean": float(np.mean(drops)), "std": float(np.std(drops))}
        )
    return sorted(found, key=lambda item: -item["mean"])
