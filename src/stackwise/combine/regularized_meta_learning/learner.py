"""Stacking as registered learners: their knobs are the configuration of the method."""

from typing import Any, ClassVar

import numpy as np

from stackwise.catalog import learner
from stackwise.combine.regularized_meta_learning.stacking import RegularizedStacking
from stackwise.combine.regularized_meta_learning.stage_knobs import (
    base_knobs,
    class_stage_knobs,
    stage_knobs,
)
from stackwise.learning.targets import ClassTarget, NumberTarget

CARD: dict[str, Any] = {
    "title": "Stacking with regularised meta-models",
    "paper": "2602.12469",
    "cost": "fits every base model once a fold, then linear models",
    "names": {
        "stack_predictions": "stackwise.combine.regularized_meta_learning:stack_predictions"
    },
    "presets": {
        "quick": {"cv": 3, "meta_cv": 3},
        "standard": {},
        "best": {
            "estimators": ["gradient-boosting", "linear", "mlp", "tabm", "masknet"],
            "cv": 10, "meta_cv": 10,
        },
    },
}  # fmt: skip


@learner("regularized-meta-learning", problem="classification", **CARD)
class RegularizedStackingClassifier(ClassTarget, RegularizedStacking):
    """Join models by penalised logistic regression on their log-odds, out of fold."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (base_knobs, stage_knobs, class_stage_knobs)

    def __init__(self) -> None:
        """A stack for a class."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) probabilities, in the order of `classes_`."""
        return self._joined(X)


@learner("regularized-meta-learning", problem="regression", **CARD)
class RegularizedStackingRegressor(NumberTarget, RegularizedStacking):
    """Join models by Ridge, Lasso and ElasticNet on their out-of-fold predictions."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (base_knobs, stage_knobs)

    def __init__(self) -> None:
        """A stack for a number."""

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64 predictions, in the target's own unit."""
        return self._joined(X)
