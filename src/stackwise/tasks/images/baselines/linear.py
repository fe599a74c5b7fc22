"""Logistic regression on the pixels of pictures: what is there without looking at neighbours."""

from typing import Any, ClassVar

import numpy as np

from stackwise.catalog import baseline
from stackwise.learning.targets import class_knobs
from stackwise.tasks.images.estimators.estimator import ImageEstimator, image_knobs
from stackwise.tasks.images.estimators.pixels import BLOCK
from stackwise.tasks.table.baselines.linear import LinearClasses, linear_knobs


@baseline("linear", title="Linear model", problem="classification")
class LinearPixelsClassifier(LinearClasses, ImageEstimator):
    """Logistic regression on the pixels of pictures, its penalty cross-validated."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (linear_knobs, image_knobs, class_knobs)

    def __init__(self) -> None:
        """A linear model on pixels."""

    def _matrix(self, samples: Any) -> np.ndarray:
        """(n, C * H * W) float32 normalised pixels."""
        pixels = self.pixels(samples)
        blocks = [
            pixels[start : start + BLOCK].flatten(1).numpy()
            for start in range(0, len(pixels), BLOCK)
        ]
        return np.concatenate(blocks)
