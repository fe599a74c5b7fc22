"""The four stages over predictions of a number: linear meta-models, judged by the RMSE."""

from typing import Any

import numpy as np

from stackwise.combine.regularized_meta_learning.folds import Folds
from stackwise.combine.regularized_meta_learning.meta_features import augment
from stackwise.combine.regularized_meta_learning.meta_models import LinearMember, fit_members
from stackwise.combine.regularized_meta_learning.pipeline import Pipeline
from stackwise.combine.regularized_meta_learning.projection import moments


class NumberPipeline(Pipeline):
    """The four stages over (n, M) predictions of a number; the error is the RMSE."""

    by_class = False
    member_kind = LinearMember

    def _error(
        self, prediction: np.ndarray, target: np.ndarray, weight: np.ndarray | None
    ) -> float:
        return float(np.sqrt(np.average(np.square(prediction - target), weights=weight)))

    def _comparable(self, predictions: np.ndarray) -> np.ndarray:
        return predictions

    def _units(
        self,
        columns: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None,
        rows: np.ndarray | None,
    ) -> tuple[np.ndarray, float]:
        unit = 1.0
        if self.knobs["mse_units"] == "target":
            unit = float(moments(target[:, None], weight)[1][0, 0])
        return np.full(columns.shape[1], unit), unit

    def _features(self, predictions: np.ndarray, extra: np.ndarray | None) -> np.ndarray:
        found = augment(predictions, **self._augmenting())
        return found if extra is None else np.hstack([found, extra])

    def _answer_shape(self, predictions: np.ndarray) -> tuple[int, ...]:
        return (len(predictions),)

    def _fit_kinds(
        self,
        features: np.ndarray,
        target: np.ndarray,
        inner: Folds,
        kinds: list[str],
        weight: np.ndarray | None,
    ) -> dict[str, Any]:
        return dict(
            fit_members(
                features, target, inner, kinds, weight=weight,
                relative=self.knobs["mse_units"] == "target", one_se=self.knobs["one_se"],
                tol=self.knobs["tol"], rounds=self.knobs["max_epochs"],
            )
        )  # fmt: skip
