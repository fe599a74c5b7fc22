"""What the four stages do with numbers, and what with classes."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import root_mean_squared_error

from stackwise.combine.regularized_meta_learning.stages.log_odds import (
    LEAST_ALIKE,
    log_loss,
    to_space,
)
from stackwise.combine.regularized_meta_learning.stages.meta_models import Solver
from stackwise.combine.regularized_meta_learning.stages.penalised import LeastSquares, Logistic
from stackwise.combine.regularized_meta_learning.stages.projection import moments
from stackwise.errors import DataError
from stackwise.learning.metrics import metric_for

MOST_FREE_CLASSES = 5
ROWS_A_WEIGHT = 10
"""`tied="auto"` frees the weights where each has at least this many rows."""


class Numbers:
    """(n, M) predictions of a number: linear meta-models, judged by the RMSE.

    Attributes:
        tied: whether classes share their weights.
        floor: errors below it count as it in the blend.
    """

    by_class = False
    floor = 0.0

    def __init__(self, knobs: Mapping[str, Any]) -> None:
        self.knobs = knobs
        self.tied = False

    def settle(self, names: Sequence[str], predictions: np.ndarray) -> None:
        """Check the predictions, and decide what depends on their size."""

    def error(self, prediction: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
        """What the meta-models are judged by."""
        return float(root_mean_squared_error(target, prediction, sample_weight=weight))

    def report(self, prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Further scores."""
        return {}

    def values(self, predictions: np.ndarray) -> np.ndarray:
        """(n, m), or (n, K, m), what the meta-models see of the predictions."""
        return predictions

    def comparable(self, predictions: np.ndarray) -> np.ndarray:
        """(n, M), or (n K, M), what stage 1 compares."""
        return predictions

    def units(self, columns: np.ndarray, target: np.ndarray, weight: np.ndarray) -> Any:
        """The units of `tau_mse` (for all, or a column each) and of `tau_var`."""
        variance = float(moments(target[:, None], weight)[1][0, 0])
        return variance, variance

    def solver(self, target: np.ndarray, weight: np.ndarray) -> Solver:
        """What fits and judges the meta-models."""
        spread = float(np.sqrt(moments(target[:, None], weight)[1][0, 0]))
        unit = spread if self.knobs["mse_units"] == "target" and spread > 0 else 1.0
        return partial(
            LeastSquares, unit=unit, tol=self.knobs["tol"], rounds=self.knobs["max_epochs"]
        )


class Classes(Numbers):
    """(n, M, C) probabilities: logistic meta-models on log-odds, judged by the log loss."""

    by_class = True
    floor = 1e-6

    def __init__(self, knobs: Mapping[str, Any], classes: int) -> None:
        super().__init__(knobs)
        self.classes = classes

    def settle(self, names: Sequence[str], predictions: np.ndarray) -> None:
        """Refuse what are no probabilities, and tie the weights of many classes or few rows."""
        wrong = (predictions < -1e-9).any(-1) | (np.abs(predictions.sum(-1) - 1) > 1e-3)
        if wrong.any():
            raise DataError(
                f"the predictions of {names[int(wrong.any(0).argmax())]!r} are no probabilities: "
                "they must be 0 or more, and sum to 1 over the classes"
            )
        rows, models = predictions.shape[:2]
        few = rows < ROWS_A_WEIGHT * self.classes**2 * (models + 6)
        wanted = self.knobs["tied"]
        tied = self.classes > MOST_FREE_CLASSES or few if wanted == "auto" else wanted
        self.tied = self.classes > 2 and tied

    def error(self, prediction: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
        """The log loss."""
        return log_loss(prediction, target, weight)

    def report(self, prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Log loss, Brier score and calibration error, each row counting once."""
        scores = (metric_for("multiclass", n) for n in ("log_loss", "brier", "calibration_error"))
        return {of.name: of.function(target, prediction) for of in scores if of.function}

    def values(self, predictions: np.ndarray) -> np.ndarray:
        """(n, K, m) log-odds, or probabilities."""
        return to_space(predictions, self.knobs["space"])

    def comparable(self, predictions: np.ndarray) -> np.ndarray:
        """(n K, M): the values of all classes below each other, their tails cut off."""
        values = to_space(predictions, self.knobs["space"], LEAST_ALIKE)
        return values.reshape(-1, values.shape[-1])

    def units(self, columns: np.ndarray, target: np.ndarray, weight: np.ndarray) -> Any:
        """The variances of the columns, and the largest one."""
        rows = np.repeat(weight, len(columns) // len(weight))
        variance = moments(columns, rows)[1].diagonal()
        return variance, float(variance.max())

    def solver(self, target: np.ndarray, weight: np.ndarray) -> Solver:
        """What fits and judges the meta-models."""
        return partial(Logistic, classes=self.classes, rounds=self.knobs["max_epochs"])
