"""Which columns a fitted learner uses."""

import warnings
from typing import Any


def permutation_importance(
    learner: Any, task: Any, *, rows: int = 1000, repeats: int = 3, seed: int = 0
) -> list[dict[str, Any]]:
    """How much worse the score gets when a column is shuffled, on validation rows.

    Returns:
        `column`, `mean` and `std` over repeats, in units of the metric; largest first. Positive
        means that the model uses the column.
    """
    import numpy as np

    from stackwise.tasks.table.predictions import predict_once

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

    base = worse(X)
    found = []
    for column in X.columns:
        drops = []
        for _ in range(repeats):
            shuffled = X.copy()
            shuffled[column] = X[column].to_numpy()[generator.permutation(len(X))]
            drops.append(worse(shuffled) - base)
        found.append(
            {"column": str(column), "mean": float(np.mean(drops)), "std": float(np.std(drops))}
        )
    return sorted(found, key=lambda item: -item["mean"])
