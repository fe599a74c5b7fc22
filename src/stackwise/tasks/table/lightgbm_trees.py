"""LightGBM on a table: trees that grow leaf by leaf, as a user would set them up."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from stackwise.catalog import Knob, baseline
from stackwise.errors import RunError
from stackwise.files import replacing
from stackwise.tasks.table.boosters import Booster, booster_knobs, matrix
from stackwise.tasks.table.estimator import Part
from stackwise.tasks.table.targets import ClassTarget, NumberTarget, class_knobs


def lightgbm_knobs(
    *,
    max_leaf_nodes: Annotated[
        int, Knob("leaves of a tree at most", ge=2, log=True, search=(8, 256))
    ] = 31,
    min_samples_leaf: Annotated[
        int, Knob("rows of a leaf at least", ge=1, log=True, search=(1, 100))
    ] = 20,
) -> None:
    """The knobs that LightGBM has beside the shared ones."""


class LightGBMLearner(Booster):
    """LightGBM behind the columns of a table."""

    package: ClassVar[str] = "lightgbm"
    file: ClassVar[str] = "model.txt"

    def _fit_parts(self, train_part: Part, held: Part | None) -> None:
        lightgbm = self.module
        objective, scores = self._objective("regression", "binary", "multiclass")
        first, codes = self.contract_.n_numeric, self.contract_.cardinalities
        sets = [(train_part, self.contract_.transform(train_part.frame))]
        if held is not None and self.patience is not None:
            sets.append((held, self._quietly(held.frame)))
        given = [
            lightgbm.Dataset(
                matrix(arrays, codes), part.target, weight=part.weight,
                categorical_feature=list(range(first, first + len(codes))), free_raw_data=True,
            )
            for part, arrays in sets
        ]  # fmt: skip
        parameters = {
            "objective": objective, "learning_rate": self.lr, "num_leaves": self.max_leaf_nodes,
            "min_data_in_leaf": self.min_samples_leaf, "lambda_l2": self.l2,
            "bagging_fraction": self.row_share, "bagging_freq": int(self.row_share < 1),
            "feature_fraction": self.column_share, "seed": self.seed_, "verbosity": -1,
            "deterministic": True, "force_row_wise": True, "num_threads": self.threads or 0,
        }  # fmt: skip
        if scores > 1:
            parameters["num_class"] = scores
        calls = [_stop_at(lightgbm, self._end())]
        if len(given) > 1:
            calls.append(lightgbm.early_stopping(self.patience, verbose=False))
        self.booster_ = lightgbm.train(
            parameters, given[0], num_boost_round=self.max_epochs, valid_sets=given[1:],
            callbacks=calls,
        )  # fmt: skip
        self.best_epoch_ = self.booster_.best_iteration or self.booster_.current_iteration()

    def _margin(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "booster_")
        features = matrix(self.transform_columns(X), self.contract_.cardinalities)
        return np.asarray(
            self.booster_.predict(
                features, raw_score=True, num_iteration=self.best_epoch_,
                num_threads=self.threads or 0,
            )
        )  # fmt: skip

    def _write(self, folder: Path) -> dict[str, Any]:
        with replacing(folder / self.file) as beside:
            self.booster_.save_model(beside, num_iteration=self.best_epoch_)
        return {"best_epoch": self.best_epoch_}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        path = self._model_path(folder)
        try:
            self.booster_ = self.module.Booster(model_file=path)
        except self.module.basic.LightGBMError as error:
            raise RunError(f"{path} is damaged or of another format ({error})") from error
        self.best_epoch_ = record["best_epoch"]


def _stop_at(lightgbm: Any, end: float) -> Any:
    """A callback that ends training when the time is over."""

    def call(environment: Any) -> None:
        if time.monotonic() > end:
            raise lightgbm.callback.EarlyStopException(
                environment.iteration, environment.evaluation_result_list or []
            )

    return call


_CARD: dict[str, Any] = {
    "title": "LightGBM",
    "requires": {"lightgbm": "boost"},
    "presets": {
        "quick": {"lr": 0.1, "max_epochs": 300, "patience": 20},
        "standard": {},
        "best": {"lr": 0.02, "max_epochs": 10_000, "patience": 200, "max_leaf_nodes": 63},
    },
}


@baseline("lightgbm", problem="regression", **_CARD)
class LightGBMRegressor(NumberTarget, LightGBMLearner):
    """LightGBM with native categories, stopped early on the validation rows."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (lightgbm_knobs, booster_knobs)

    def __init__(self) -> None:
        """Boosted trees for a number."""

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64 predictions."""
        return self._margin(X)


@baseline("lightgbm", problem="classification", **_CARD)
class LightGBMClassifier(ClassTarget, LightGBMLearner):
    """LightGBM with native categories, stopped early on the validation rows."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (lightgbm_knobs, booster_knobs, class_knobs)

    def __init__(self) -> None:
        """Boosted trees for a class."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) probabilities, in the order of `classes_`."""
        return self._probabilities(self._margin(X))
