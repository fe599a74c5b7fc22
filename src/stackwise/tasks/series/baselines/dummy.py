"""What is there without looking: how common each class is, the mean, the value that stood last.

A forecast by the last value is hard to beat where little changes; it is taken where it was nearer
to the training targets than their mean.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stackwise.catalog import baseline
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.targets import ClassTarget, NumberTarget, class_knobs
from stackwise.tasks.series.estimators.estimator import SeriesEstimator
from stackwise.tasks.series.series import Series

TITLE = "What is there without looking"


@baseline("dummy", title=TITLE, problem="classification")
class DummySeriesClassifier(ClassTarget, SeriesEstimator):
    """Answer with the shares of the classes in training. Fitted: `shares_` (C,)."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (class_knobs,)

    def __init__(self) -> None:
        """The shares of the classes."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) the shares of the training series, in the order of `classes_`."""
        count = len(self._read_samples(X, fit=False))
        return np.tile(self.shares_, (count, 1))

    def _fit_parts(self, train: LabelledRows, held: LabelledRows | None) -> None:
        found = np.bincount(train.target, weights=train.weight, minlength=len(self.classes_))
        self.shares_ = found / found.sum()

    def _write(self, folder: Path) -> dict[str, Any]:
        return super()._write(folder) | {"shares": self.shares_.tolist()}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.shares_ = np.array(record["shares"], dtype=float)


@baseline("dummy", title=TITLE, problem="regression")
class DummySeriesRegressor(NumberTarget, SeriesEstimator):
    """Answer with the training mean, or with the last value of a channel where that was nearer.

    Fitted: `channel_`, whose last value is the answer, or None.
    """

    standardises: ClassVar[bool] = True

    def __init__(self) -> None:
        """The mean, or the last value."""

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64."""
        series = self._read_samples(X, fit=False)
        return self._answers(series, self.channel_)

    def _answers(self, series: Series, channel: int | None) -> np.ndarray:
        if channel is None:
            return np.full(len(series), self.target_mean_)
        return np.array([_last(one[channel], self.mean_[channel]) for one in series.values])

    def _fit_parts(self, train: LabelledRows, held: LabelledRows | None) -> None:
        choices = [None, *range(len(self.channels_))]
        errors = [
            float(np.average((self._answers(train.samples, one) - train.target) ** 2,
                             weights=train.weight))
            for one in choices
        ]  # fmt: skip
        self.channel_ = choices[int(np.argmin(errors))]

    def _write(self, folder: Path) -> dict[str, Any]:
        return super()._write(folder) | {"channel": self.channel_}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.channel_ = record["channel"]


def _last(channel: np.ndarray, otherwise: float) -> float:
    """The last value that was measured."""
    known = channel[~np.isnan(channel)]
    return float(known[-1]) if len(known) else float(otherwise)
