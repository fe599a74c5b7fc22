"""What the boosting packages share on a table: the features, the stopping, the shape of the answer.

Numbers stay raw and may be missing, categories are split natively, and the number of trees is
chosen on the validation rows. A category that training lacks is missing. Each package keeps its
model in its own format.
"""

import importlib
import math
import operator
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from scipy.special import expit, softmax

from stackwise.catalog import Knob
from stackwise.errors import RunError, TrainingError
from stackwise.files import replacing
from stackwise.tasks.table.estimators.estimator import TableEstimator
from stackwise.tasks.table.features.contract import TableArrays
from stackwise.training.session import current_session

PAUSE = 0.5
"""Seconds between two words about progress."""


def booster_knobs(
    *,
    lr: Annotated[
        float, Knob("shrinkage of each tree", gt=0, le=1, log=True, search=(0.01, 0.3))
    ] = 0.05,
    max_trees: Annotated[int, Knob("rounds of trees at most", ge=1, le=100_000)] = 2000,
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
    """Boosted trees of another package. Fitted: `booster_`, `best_epoch_` (rounds kept).

    Attributes:
        package: that grows the trees.
        file: of a run's folder, with the trees in the package's own format.
        refusal: the package's exception, by its name in the package.
        extra: of this library, that brings the package.
    """

    budget: ClassVar[str | None] = "max_trees"
    shared_knobs: ClassVar[tuple[Any, ...]] = (booster_knobs,)
    package: ClassVar[str]
    file: ClassVar[str]
    refusal: ClassVar[str]
    extra: ClassVar[str] = "boost"
    _end_passed: bool = False
    _grown: int = 0

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
                f"{self.package} is not installed; pip install 'stackwise[{self.extra}]' brings it"
            ) from error

    def _over(self) -> Callable[[], bool]:
        """Whether the time is over, as a question that is asked after each round of trees."""
        limits = (self.time_limit, current_session().seconds_left())
        end = time.monotonic() + min((value for value in limits if value is not None),
                                     default=float("inf"))  # fmt: skip
        self._end_passed, self._grown = False, 0

        def over() -> bool:
            self._grown += 1
            self._end_passed = time.monotonic() > end
            return self._end_passed

        return over

    def _note_if_cut(self) -> None:
        """Say that the time limit ended growing, and after how many rounds."""
        if self._end_passed:
            self.notes_.append(
                f"the time limit ended training after {self._grown} of at most {self.max_trees} "
                "rounds of trees; more time may help"
            )

    def _teller(self) -> Callable[[int], None]:
        """Says after how many rounds training is, now and then, where somebody listens."""
        session, began, last = current_session(), time.monotonic(), -math.inf

        def tell(rounds: int) -> None:
            nonlocal last
            now = time.monotonic()
            if session.on_event is None or (now - last < PAUSE and rounds < self.max_trees):
                return
            last = now
            session.on_event({"phase": "trees", "step": rounds, "steps": self.max_trees,
                              "seconds": now - began, "at_most": True})  # fmt: skip

        return tell

    def learned_for(self) -> int | None:
        """The rounds that are kept."""
        return max(int(self.best_epoch_), 1)

    def _contract_options(self) -> dict[str, Any]:
        return {"numeric": None, "keep_missing": True}

    def whole_knobs(self) -> dict[str, Any]:
        """As many rounds as were kept, and no rows that decide it."""
        return {"max_trees": self.best_epoch_, "patience": None, "validation": 0.0}

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

    def _save(self, path: Path) -> None:
        """Write the trees that are kept, in the package's own format."""
        self.booster_.save_model(path)

    def _load_trees(self, path: Path) -> Any:
        """The inverse of `_save`."""
        return self.module.Booster(model_file=path)

    def _write(self, folder: Path) -> dict[str, Any]:
        with replacing(folder / self.file) as beside:
            self._save(beside)
        return super()._write(folder) | {"best_epoch": self.best_epoch_}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        path = folder / self.file
        if not path.is_file():
            raise RunError(f"{path} does not exist; the folder is not a finished stackwise run")
        try:
            self.booster_ = self._load_trees(path)
        except operator.attrgetter(self.refusal)(self.module) as error:
            raise RunError(f"{path} is damaged or of another format ({error})") from error
        self.best_epoch_ = record["best_epoch"]


def matrix(arrays: TableArrays, cardinalities: list[int]) -> np.ndarray:
    """(n, n_numeric + n_categorical) float64: numbers, then codes; NaN where there is none."""
    codes = arrays.categorical.astype(np.float64)
    codes[arrays.categorical >= np.array(cardinalities, dtype=np.int64)] = np.nan
    return np.hstack([arrays.numeric.astype(np.float64), codes])
