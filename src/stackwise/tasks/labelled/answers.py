"""What a fitted learner answers for samples, as columns: `prediction`, `probability_<class>`.

A learner that has no probabilities but margins (`decision_function`) answers with
`margin_<class>` instead; of two classes, for which scikit-learn has one number, the other margin is
its negative.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Answers:
    """What a learner answered.

    Attributes:
        prediction: (n,). probability, margin: (n, C) of classes, where the learner has them; never
            both.
    """

    prediction: np.ndarray
    probability: np.ndarray | None = None
    margin: np.ndarray | None = None


def ask(learner: Any, samples: Any) -> Answers:
    """All that a learner answers for samples, which go through it once.

    The prediction of a classifier is read off its probabilities or margins, so that the two cannot
    disagree.
    """
    if hasattr(learner, "classes_"):
        classes = np.asarray(learner.classes_)
        if hasattr(learner, "predict_proba"):
            probability = np.asarray(learner.predict_proba(samples))
            return Answers(classes[probability.argmax(axis=1)], probability)
        if hasattr(learner, "decision_function"):
            margin = np.asarray(learner.decision_function(samples))
            margin = np.stack([-margin, margin], axis=1) if margin.ndim == 1 else margin
            return Answers(classes[margin.argmax(axis=1)], margin=margin)
    return Answers(np.asarray(learner.predict(samples)))


def predict_frame(learner: Any, samples: Any) -> pd.DataFrame:
    """`prediction`, and of classes `probability_<class>` or `margin_<class>`, of each row."""
    return answer_frame(learner, ask(learner, samples))


def predict_once(learner: Any, samples: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Predictions (n,), and of a classifier probabilities (n, C) in the order of its `classes_`."""
    answers = ask(learner, samples)
    return answers.prediction, answers.probability


def answer_frame(learner: Any, answers: Answers) -> pd.DataFrame:
    """Answers as columns: `prediction`, `probability_<class>` or `margin_<class>`."""
    columns = {"prediction": answers.prediction}
    for kind, values in (("probability", answers.probability), ("margin", answers.margin)):
        if values is not None:
            for place, name in enumerate(learner.classes_):
                columns[f"{kind}_{name}"] = values[:, place]
    return pd.DataFrame(columns)
