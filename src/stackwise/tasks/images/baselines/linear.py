"""Logistic regression on the pixels of pictures: what is there without looking at neighbours."""

from typing import Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from stackwise.catalog import baseline
from stackwise.learning.targets import ClassTarget, class_knobs
from stackwise.tasks.images.estimators.estimator import ImageEstimator, image_knobs
from stackwise.tasks.images.estimators.pixels import BLOCK
from stackwise.tasks.table.baselines.linear import LinearModel, linear_knobs


@baseline("linear", title="Linear model", problem="classification")
class LinearPixelsClassifier(ClassTarget, LinearModel, ImageEstimator):
    """Logistic regression on the pixels of pictures, its penalty cross-validated."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (linear_knobs, image_knobs, class_knobs)

    def __init__(self) -> None:
        """A linear model on pixels."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) probabilities, in the order of `classes_`."""
        check_is_fitted(self, "estimator_")
        return np.asarray(
            self.estimator_.predict_proba(self._matrix(self._read_samples(X, fit=False)))
        )

    def _matrix(self, samples: Any) -> np.ndarray:
        """(n, C * H * W) float32 normalised pixels."""
        pixels = self.pixels(samples)
        blocks = [
            pixels[start : start + BLOCK].flatten(1).numpy()
            for start in range(0, len(pixels), BLOCK)
        ]
        return np.concatenate(blocks)
