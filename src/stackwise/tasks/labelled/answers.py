"""What a fitted learner answers for samples, as columns: `prediction`, `probability_<class>`."""

from typing import Any

import numpy as np
import pandas as pd


def predict_frame(learner: Any, samples: Any) -> pd.DataFrame:
    """`prediction` and `probability_<class>` of each row.

    See `predict_once`.
    """
    return answer_frame(learner, *predict_once(learner, samples))


def predict_once(learner: Any, samples: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Predictions (n,), and of a classifier probabilities (n, C) in the order of its `classes_`.

    The prediction of a classifier is read off the probabilities, so that the two cannot disagree
    and rows are computed once.
    """
    if not hasattr(learner, "predict_proba") or not hasattr(learner, "classes_"):
        return np.asarray(learner.predict(samples)), None
    probability = np.asarray(learner.predict_proba(samples))
    return np.asarray(learner.classes_)[probability.argmax(axis=1)], probability


def answer_frame(
    learner: Any, prediction: np.ndarray, probability: np.ndarray | None
) -> pd.DataFrame:
    """What `predict_once` found as columns: `prediction` and `probability_<class>`."""
    columns = {"prediction": prediction}
    if probability is not None:
        for place, name in enumerate(learner.classes_):
            columns[f"probability_{name}"] = probability[:, place]
    return pd.DataFrame(columns)
