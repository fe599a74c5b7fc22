"""The four stages over probabilities: logistic meta-models on log-odds, judged by log loss."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stackwise.combine.regularized_meta_learning.class_models import (
    LogisticMember,
    fit_class_members,
)
from stackwise.combine.regularized_meta_learning.folds import Folds
from stackwise.combine.regularized_meta_learning.log_odds import (
    LEAST_ALIKE,
    brier,
    calibration_error,
    log_loss,
    to_space,
)
from stackwise.combine.regularized_meta_learning.meta_features import augment
from stackwise.combine.regularized_meta_learning.pipeline import Pipeline
from stackwise.combine.regularized_meta_learning.projection import moments
from stackwise.errors import DataError, KnobError

MOST_FREE_CLASSES = 5
ROWS_A_WEIGHT = 10
"""`tied="auto"` frees the weights where each has at least this many rows."""


class ClassPipeline(Pipeline):
    """The four stages over (n, M, C) probabilities; the error is the log loss.

    Attributes (fitted):
        tied_: whether the classes share their weights.
        report_: log loss, Brier score and expected calibration error of `oof_`.
    """

    by_class = True
    member_kind = LogisticMember

    def _check(self, predictions: np.ndarray, target: np.ndarray) -> None:
        super()._check(predictions, target)
        sums = predictions.sum(-1)
        wrong = ((predictions < -1e-9).any(-1) | (np.abs(sums - 1) > 1e-3)).any(0)
        if wrong.any():
            raise DataError(
                f"the predictions of {self.names[int(wrong.argmax())]!r} are no probabilities: "
                "they must be 0 or more, and sum to 1 over the classes"
            )

    def _settle(self, predictions: np.ndarray, target: np.ndarray) -> None:
        self.tied_ = False
        if self.classes > 2:
            wanted = self.knobs["tied"]
            weights = self.classes**2 * (predictions.shape[1] + 6)
            few = len(target) < ROWS_A_WEIGHT * weights
            self.tied_ = wanted if wanted != "auto" else self.classes > MOST_FREE_CLASSES or few

    def _error(
        self, prediction: np.ndarray, target: np.ndarray, weight: np.ndarray | None
    ) -> float:
        return log_loss(prediction, target, weight)

    def _comparable(self, predictions: np.ndarray) -> np.ndarray:
        """(n K, M): the values of all classes below each other, their tails cut off."""
        values = to_space(predictions, self.knobs["space"], LEAST_ALIKE)
        return values.reshape(-1, values.shape[-1])

    def _units(
        self,
        columns: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None,
        rows: np.ndarray | None,
    ) -> tuple[np.ndarray, float]:
        if self.knobs["mse_units"] == "absolute":
            return np.ones(columns.shape[1]), 1.0
        variance = moments(columns, rows)[1].diagonal().copy()
        return variance, float(variance.max())

    def _features(self, predictions: np.ndarray, extra: np.ndarray | None) -> np.ndarray:
        found = augment(to_space(predictions, self.knobs["space"]), **self._augmenting())
        if not self.tied_:
            found = found.reshape(len(found), -1)
            return found if extra is None else np.hstack([found, extra])
        if extra is not None:
            raise KnobError(
                "passthrough gives columns that belong to no class; set tied=False, or leave it off"
            )
        return found

    def _answer_shape(self, predictions: np.ndarray) -> tuple[int, ...]:
        return (len(predictions), self.classes)

    def _fit_kinds(
        self,
        features: np.ndarray,
        target: np.ndarray,
        inner: Folds,
        kinds: list[str],
        weight: np.ndarray | None,
    ) -> dict[str, Any]:
        return dict(
            fit_class_members(
                features, target, self.classes, inner, kinds, weight=weight,
                one_se=self.knobs["one_se"], rounds=self.knobs["max_epochs"],
            )
        )  # fmt: skip

    def _blend(
        self,
        answers: dict[str, np.ndarray],
        target: np.ndarray,
        judged: np.ndarray,
        weight: np.ndarray | None,
    ) -> None:
        super()._blend(answers, target, judged, weight)
        self.report_ = {
            "log_loss": self.score_,
            "brier": brier(self.oof_[judged], target[judged]),
            "calibration_error": calibration_error(self.oof_[judged], target[judged]),
        }

    def _record(self) -> dict[str, Any]:
        return super()._record() | {"tied": self.tied_, "report": self.report_}

    def _read_own(self, record: Mapping[str, Any]) -> None:
        self.tied_ = record["tied"]
        self.report_ = record["report"]
