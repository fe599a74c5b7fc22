"""MiniRocket: thousands of fixed convolutions and a ridge on how often each is above its bias.

Hard to beat on a few hundred series, and learned in a second. The penalty is chosen by leaving
single series out. A ridge on classes gives margins, no probabilities.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from stackwise.catalog import Knob, baseline
from stackwise.files import read_tensors, write_tensors
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.targets import ClassTarget, NumberTarget, class_knobs
from stackwise.tasks.series.baselines.rocket_features import TAPS, Rocket, fit_rocket
from stackwise.tasks.series.estimators.estimator import SeriesEstimator, series_knobs
from stackwise.tasks.series.estimators.values import LEAST_WIDTH, Values
from stackwise.tasks.series.series import Series
from stackwise.tasks.table.estimators.kept import SkopsKept, computing_with

PENALTIES = np.logspace(-3, 3, 10)
CARD: dict[str, Any] = {
    "title": "MiniRocket and a ridge",
    "presets": {"quick": {"features": 840}, "standard": {}},
}
AT_ONCE, BLOCK = 256, 16
"""Series whose features are made together, in training and of a question."""


def rocket_knobs(
    *,
    features: Annotated[
        int, Knob("features, rounded down to a multiple of 84", ge=84, log=True)
    ] = 9996,
    threads: Annotated[int | None, Knob("threads to compute with", ge=1)] = None,
    random_state: Annotated[int | None, Knob("seed of everything random", ge=0)] = 0,
) -> None:
    """The knobs of MiniRocket."""


class MiniRocketLearner(SkopsKept, SeriesEstimator):
    """MiniRocket's features behind a linear model. Fitted: `rocket_`, `estimator_`."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (rocket_knobs, series_knobs)
    rocket_: Rocket

    def _model(self) -> Any:
        raise NotImplementedError

    def _matrix(self, samples: Series) -> np.ndarray:
        """(n, F) float32."""
        width = max(self.longest_, LEAST_WIDTH, int(samples.lengths.max()))
        values = Values(samples.values, self.mean_, self.std_, width, self.scaling == "series")
        lengths = torch.from_numpy(samples.lengths).clamp(min=TAPS)
        found = [
            self.rocket_.features(values[start : start + AT_ONCE], lengths[start : start + AT_ONCE])
            for start in range(0, len(values), AT_ONCE)
        ]
        return torch.cat(found).numpy()

    def _fit_parts(self, train: LabelledRows, held: LabelledRows | None) -> None:
        samples: Series = train.samples
        width = max(self.longest_, TAPS)
        values = Values(samples.values, self.mean_, self.std_, width, self.scaling == "series")
        lengths = torch.from_numpy(samples.lengths).clamp(min=TAPS)
        with computing_with(self.threads):
            drawn = np.sort(np.random.default_rng(self.seed_).permutation(len(values))[:AT_ONCE])
            self.rocket_ = fit_rocket(
                values[torch.from_numpy(drawn)], lengths[drawn], self.features, self.seed_
            )
            made = make_pipeline(StandardScaler(), self._model())
            weight = {f"{made.steps[-1][0]}__sample_weight": train.weight}
            self.estimator_ = made.fit(self._matrix(samples), train.target, **weight)

    def whole_knobs(self) -> dict[str, Any]:
        """Those that it has: it chooses its penalty without validation rows."""
        return {}

    def _asked(self, X: Any, answer: str) -> np.ndarray:
        """What a method of the linear model answers, in blocks of one size, so that no answer
        depends on the others.
        """
        check_is_fitted(self, "estimator_")
        samples, found = self._read_samples(X, fit=False), []
        for start in range(0, len(samples), BLOCK):
            rows = np.arange(start, start + BLOCK).clip(max=len(samples) - 1)
            block = getattr(self.estimator_, answer)(self._matrix(samples.only(rows)))
            found.append(block[: len(samples) - start])
        return np.concatenate(found).astype(np.float64)

    def _write(self, folder: Path) -> dict[str, Any]:
        write_tensors(folder / "features.safetensors", self.rocket_.tensors())
        return super()._write(folder)

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.rocket_ = Rocket(**read_tensors(folder / "features.safetensors"))


@baseline("mini-rocket", problem="classification", **CARD)
class MiniRocketClassifier(ClassTarget, MiniRocketLearner):
    """A ridge on MiniRocket's features; answers by margins."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (rocket_knobs, series_knobs, class_knobs)

    def __init__(self) -> None:
        """Random convolutions and a ridge."""

    def _model(self) -> Any:
        return RidgeClassifierCV(PENALTIES)

    def decision_function(self, X: Any) -> np.ndarray:
        """(n, C) float64 margins in the order of `classes_`; of two classes (n,), of the second."""
        return self._asked(X, "decision_function")

    def predict(self, X: Any) -> np.ndarray:
        """(n,) the class of the largest margin."""
        margins = self.decision_function(X)
        codes = margins.argmax(1) if margins.ndim == 2 else (margins > 0).astype(int)
        return np.asarray(self.classes_[codes])


@baseline("mini-rocket", problem="regression", **CARD)
class MiniRocketRegressor(NumberTarget, MiniRocketLearner):
    """A ridge on MiniRocket's features."""

    def __init__(self) -> None:
        """Random convolutions and a ridge."""

    def _model(self) -> Any:
        return RidgeCV(PENALTIES)

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64."""
        return self._in_own_unit(self._asked(X, "predict"))
