"""The estimators that all networks on series share.

A subclass says which network it builds; it is called with `values` (B, C, L) float32 and `lengths`
(B,) int64, the moments of each series, behind which values are 0, and returns (B, n_outputs).

    class Plain(SeriesClassifier):
        def __init__(self, *, width: Annotated[int, Knob("hidden units", ge=1)] = 32) -> None:
            "Series averaged."

        def build_network(self, rows):
            return Net(channels=rows.channels, n_outputs=rows.n_outputs, width=self.width)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import nn

from stackwise.errors import ModelError
from stackwise.learning.labelled_estimator import held_out_knobs
from stackwise.learning.labelled_network import LabelledNetwork, PredictsClasses, PredictsNumbers
from stackwise.learning.targets import class_knobs
from stackwise.learning.unequal_rows import through_unequal
from stackwise.tasks.series.estimators.estimator import SeriesEstimator, series_knobs
from stackwise.tasks.series.estimators.values import PaddedSeries
from stackwise.tasks.series.series import Series
from stackwise.training.knobs import distillation_knobs, temperature_knobs, training_knobs

MOMENTS, ROWS = 8192, 64
"""Moments of a small block on its way through a network, and rows of it at most."""


@dataclass(frozen=True)
class SeriesRows:
    """The training series, as a network is made for them.

    Attributes:
        series: the series. target: (n,) class codes or standardised numbers. n_outputs: of the
            network.
    """

    series: PaddedSeries
    target: np.ndarray
    n_outputs: int

    def __len__(self) -> int:
        return len(self.target)

    @property
    def channels(self) -> int:
        """Values a moment."""
        return len(self.series.mean)

    @property
    def length(self) -> int:
        """Moments of the longest series."""
        return self.series.usual


class SeriesLearner(LabelledNetwork, SeriesEstimator):
    """A neural network on series.

    Fitted attributes are those of `SeriesEstimator` and of `NetworkLearner`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        held_out_knobs, series_knobs, training_knobs, distillation_knobs,
    )  # fmt: skip
    floor: ClassVar[dict[str, Any]] = {"min_steps": 300}
    fitted: ClassVar[str] = "network_"

    def build_network(self, rows: SeriesRows) -> nn.Module:
        """Make the network; torch's random state is that of the seed. Subclasses define this."""
        raise ModelError(f"{type(self).__name__} does not say which network it builds")

    def _features(self, samples: Series, *, quietly: bool = False) -> PaddedSeries:
        return self.padded(samples)

    def _inputs(self, features: PaddedSeries) -> Mapping[str, Any]:
        width = max(features.usual, int(features.series.lengths.max(initial=1)))
        return features.padded(range(len(features)), width)

    def _network(self, features: PaddedSeries, target: np.ndarray) -> nn.Module:
        return self.build_network(SeriesRows(features, target, self.n_outputs_))

    def _put_through(self, network: nn.Module, features: PaddedSeries, reduce: Any) -> np.ndarray:
        return through_unequal(network, features, reduce, MOMENTS, ROWS)


class SeriesClassifier(PredictsClasses, SeriesLearner):
    """A neural network that predicts the class of a series."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (
        held_out_knobs, series_knobs, class_knobs, training_knobs, distillation_knobs,
        temperature_knobs,
    )  # fmt: skip


class SeriesRegressor(PredictsNumbers, SeriesLearner):
    """A neural network that predicts a number of a series, or what it will be."""
