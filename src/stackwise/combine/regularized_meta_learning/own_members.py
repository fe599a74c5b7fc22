"""Meta-models that are not ours: an estimator of the user's, or a base model as it is."""

from typing import Any

import numpy as np


class EstimatorMember:
    """A meta-model of the user's own: any estimator, fitted on the standardised meta-features."""

    def __init__(self, estimator: Any, mean: np.ndarray, scale: np.ndarray, by_class: bool) -> None:
        self.estimator, self.mean, self.scale, self.by_class = estimator, mean, scale, by_class

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(n,) values or (n, C) probabilities of (n, ...) meta-features."""
        standard = (flat(features) - self.mean) / self.scale
        ask = self.estimator.predict_proba if self.by_class else self.estimator.predict
        return np.asarray(ask(standard), dtype=np.float64)


class ColumnMember:
    """A base model as its own meta-model: its prediction, unchanged."""

    def __init__(self, place: int) -> None:
        self.place = place

    def predict(self, predictions: np.ndarray) -> np.ndarray:
        """Column `place` of (n, M) or (n, M, C) predictions."""
        return np.asarray(predictions[:, self.place])

    def as_dict(self) -> dict[str, Any]:
        """The member as plain JSON."""
        return {"place": self.place}


def flat(features: np.ndarray) -> np.ndarray:
    """(n, ...) meta-features as (n, p) columns."""
    return np.ascontiguousarray(features.reshape(len(features), -1))
