"""What LightGBM and XGBoost share on a table: the features, the stopping, the shape of the answer.

Numbers stay raw and may be missing, categories are split natively, and the number of trees is
chosen on the validation rows. A category that training lacks is missing. Each package keeps its
model in its own format.
"""

import importlib
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from scipy.special import expit, softmax

from stackwise.catalog import Knob
from stackwise.errors import RunError, TrainingError
from stackwise.tasks.table.contract import TableArrays
from stackwise.tasks.table.estimator import TableEstimator
from stackwise.training.session import current_session


def booster_knobs(
    *,
    lr: Annotated[
        float, Knob("shrinkage of each tree", gt=0, le=1, log=True, search=(0.01, 0.3))
    ] = 0.05,
    max_epochs: Annotated[int, Knob("rounds of trees at most", ge=1, le=100_000)] = 2000,
    patience: Annotated[
        int | None,
        Knob("rounds without a better validation score before stopping", ge=1),
    ] = 50,
    row_share: Annotated[
        float, Knob("share of the rows of each tree", gt=0, le=1, search=(0.5, 1.0))
    ] = 1.0,
    column_share: Annotated[
        float, Knob("share of the columns of each tree", gt=0, le=1, search=(0.4, 1.0))
    ] = 1.0,
    l2: Annotated[
        float, Knob("penalty of the leaves' values", ge=0, log=True, search=(1e-3, 10.0))
    ] = 1.0,
    validation: Annotated[
        float, Knob("part of the rows that decides when to stop; 0 = none", ge=0, lt=1)
    ] = 0.2,
    threads: Annotated[int | None, Knob("threads to compute with", ge=1)] = None,
    time_limit: Annotated[float | None, Knob("seconds of training", gt=0)] = None,
    random_state: Annotated[int | None, Knob("seed of everything random", ge=0)] = 0,
) -> None:
    """The knobs of every boosting package."""


class Booster(TableEstimator):
    """Boosted trees of another package. Fitted: `booster_`, `best_epoch_` (rounds kept)."""

    uses_training_loop: ClassVar[bool] = False
    package: ClassVar[str]
    file: ClassVar[str]

    @property
    def module(self) -> Any:
        """The package, imported when it is needed.

        Raises:
            TrainingError: it is not installed.
        """
        try:
            return importlib.import_module(self.package)
        except ImportError as error:
            raise TrainingError(
                f"{self.package} is not installed; pip install 'stackwise[boost]' brings it"
            ) from error

    def _end(self) -> float:
        """When training has to end, on `time.monotonic`'s clock; infinite without a limit."""
        limits = (self.time_limit, current_session().seconds_left())
        return time.monotonic() + min((value for value in limits if value is not None),
                                      default=float("inf"))  # fmt: skip

    def _contract_options(self) -> dict[str, Any]:
        return {"numeric": None, "keep_missing": True}

    def _objective(self, number: str, two: str, many: str) -> tuple[str, int]:
        """The package's word for this problem, and the scores of a row."""
        if not self._by_class:
            return number, 1
        classes = len(self.classes_)
        return (two, 1) if classes == 2 else (many, classes)

    def _probabilities(self, margin: np.ndarray) -> np.ndarray:
        """(n, C) probabilities of (n,) or (n, C) raw scores."""
        if margin.ndim == 1:
            positive = expit(margin.astype(np.float64))
            return np.stack([1 - positive, positive], axis=1)
        return np.asarray(softmax(margin.astype(np.float64), axis=1))

    def _model_path(self, folder: Path) -> Path:
        path = folder / self.file
        if not path.is_file():
            raise RunError(f"{path} does not exist; the folder is not a finished stackwise run")
        return path


def matrix(arrays: TableArrays, cardinalities: list[int]) -> np.ndarray:
    """(n, n_numeric + n_categorical) float64: numbers, then codes; NaN where there is none."""
    codes = arrays.categorical.astype(np.float64)
    codes[arrays.categorical >= np.array(cardinalities, dtype=np.int64)] = np.nan
    return np.hstack([arrays.numeric.astype(np.float64), codes])
