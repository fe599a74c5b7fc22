"""A bare module that answers as a fitted learner does, so that it is judged like one."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from stackwise.learning.outputs import mean_values
from stackwise.learning.unequal_rows import through_unequal
from stackwise.tasks.series.estimators.learner import MOMENTS, ROWS
from stackwise.tasks.series.estimators.values import PaddedSeries
from stackwise.tasks.series.series import Series


class ModuleOnSeries:
    """A module, and the classes of its outputs in their order; None where it answers numbers.

    Args:
        padded: series -> what the module reads.
    """

    def __init__(
        self,
        module: nn.Module,
        classes: np.ndarray | None,
        padded: Callable[[Series], PaddedSeries],
    ) -> None:
        self.module, self.padded = module, padded
        if classes is not None:
            self.classes_ = classes
            self.predict_proba = partial(self._values, classes=True)

    def predict(self, series: Any) -> np.ndarray:
        """(n,) classes or numbers."""
        if hasattr(self, "classes_"):
            return np.asarray(self.classes_[self._values(series, classes=True).argmax(1)])
        return np.asarray(self._values(series, classes=False)[:, 0])

    def _values(self, series: Series, *, classes: bool) -> np.ndarray:
        reduce = partial(mean_values, classes=classes)
        return through_unequal(self.module, self.padded(series), reduce, MOMENTS, ROWS)
