"""A linear model on a few numbers about each channel: what is there without the order of moments.

    level, spread, least, largest, first, last, slope over the series, mean of |change|, likeness
    of neighbours (autocorrelation at lag 1), share of gaps; and the length of the series

They are taken of the values on the scale of training and standardised.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stackwise.catalog import baseline
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.targets import class_knobs
from stackwise.tasks.series.estimators.estimator import SeriesEstimator, series_knobs
from stackwise.tasks.series.estimators.values import scaled
from stackwise.tasks.table.baselines.linear import LinearClasses, LinearNumbers, linear_knobs

CARD: dict[str, Any] = {
    "title": "Linear model",
    "presets": {"quick": {"folds": 2, "max_steps": 100}},
}


class SummaryStatistics(SeriesEstimator):
    """Numbers about series, standardised. Fitted: `centre_` and `unit_` of each."""

    def _learn_features(self, train: LabelledRows, *, whole: bool, **told: Any) -> None:
        super()._learn_features(train, whole=whole, **told)
        raw = self._raw(train.samples)
        spread = raw.std(0)
        self.centre_, self.unit_ = raw.mean(0), np.where(spread > 1e-12, spread, 1.0)

    def _matrix(self, samples: Any) -> np.ndarray:
        """(n, 10 C + 1) float64."""
        return (self._raw(samples) - self.centre_) / self.unit_

    def _raw(self, samples: Any) -> np.ndarray:
        each = self.scaling == "series"
        return np.stack(
            [summary(one, scaled(one, self.mean_, self.std_, each)) for one in samples.values]
        )

    def _write(self, folder: Path) -> dict[str, Any]:
        kept = {"centre": self.centre_.tolist(), "unit": self.unit_.tolist()}
        return super()._write(folder) | {"summary": kept}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        kept = record["summary"]
        self.centre_, self.unit_ = np.array(kept["centre"]), np.array(kept["unit"])


def summary(raw: np.ndarray, series: np.ndarray) -> np.ndarray:
    """(10 C + 1,) the numbers about one series.

    Args:
        raw: (C, length) with gaps. series: the same on its scale, without.
    """
    length = series.shape[1]
    level, spread = series.mean(1), series.std(1)
    centred = series - level[:, None]
    moments = np.arange(length) - (length - 1) / 2
    slope = centred @ moments / max(float((moments**2).sum()), 1.0)
    changes = np.abs(np.diff(series, axis=1)).mean(1) if length > 1 else np.zeros(len(series))
    power = np.maximum((centred**2).sum(1), 1e-12)
    likeness = (centred[:, 1:] * centred[:, :-1]).sum(1) / power
    found = (
        level, spread, series.min(1), series.max(1), series[:, 0], series[:, -1], slope, changes,
        likeness, np.isnan(raw).mean(1),
    )  # fmt: skip
    return np.append(np.concatenate(found), float(length))


@baseline("linear", problem="classification", **CARD)
class LinearSeriesClassifier(SummaryStatistics, LinearClasses):
    """Logistic regression on summary statistics of series, its penalty cross-validated."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (linear_knobs, series_knobs, class_knobs)

    def __init__(self) -> None:
        """A linear model for the class of a series."""


@baseline("linear", problem="regression", **CARD)
class LinearSeriesRegressor(SummaryStatistics, LinearNumbers):
    """Ridge regression on summary statistics of series, its penalty cross-validated."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (linear_knobs, series_knobs)

    def __init__(self) -> None:
        """A linear model for a number of a series."""
