"""XGBoost on a table: trees that grow level by level, as a user would set them up."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.catalog import Knob, baseline
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.targets import ClassTarget, NumberTarget, class_knobs
from stackwise.tasks.table.baselines.class_cost import say_cost
from stackwise.tasks.table.baselines.tree_packages import Booster, booster_knobs, matrix
from stackwise.tasks.table.features.contract import TableArrays


def xgboost_knobs(
    *,
    max_depth: Annotated[int, Knob("depth of a tree at most", ge=1, le=64, search=(3, 10))] = 6,
    min_child_weight: Annotated[
        float, Knob("weight of a leaf at least", ge=0, log=True, search=(0.1, 100.0))
    ] = 1.0,
) -> None:
    """The knobs that XGBoost has beside the shared ones."""


class XGBoostLearner(Booster):
    """XGBoost behind the columns of a table."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (xgboost_knobs, booster_knobs)
    package: ClassVar[str] = "xgboost"
    file: ClassVar[str] = "model.ubj"
    exporter: ClassVar[str | None] = "stackwise.tasks.table.estimators.export:export"
    refusal: ClassVar[str] = "core.XGBoostError"

    def _fit_parts(self, train_part: LabelledRows, held: LabelledRows | None) -> None:
        say_cost(self, len(train_part.target), self.contract_.n_numeric)
        xgboost = self.module
        objective, scores = self._objective("reg:squarederror", "binary:logistic", "multi:softprob")
        parameters = {
            "objective": objective, "eta": self.lr, "max_depth": self.max_depth,
            "min_child_weight": self.min_child_weight, "lambda": self.l2,
            "subsample": self.row_share, "colsample_bytree": self.column_share,
            "tree_method": "hist", "seed": self.seed_, "verbosity": 0,
            "nthread": self.threads or 0,
        }  # fmt: skip
        if scores > 1:
            parameters["num_class"] = scores
        train = self._rows_of(self.contract_.transform(train_part.samples), train_part)
        watched = []
        stopping: dict[str, Any] = {}
        if held is not None and self.patience is not None:
            watched = [(self._rows_of(self._quietly(held.samples), held), "validation")]
            stopping["early_stopping_rounds"] = self.patience
        made = xgboost.train(
            parameters, train, num_boost_round=self.max_trees, evals=watched, verbose_eval=False,
            callbacks=[_stop_when(xgboost, self._over()), _telling(xgboost, self._teller())],
            **stopping,
        )  # fmt: skip
        best = made.attr("best_iteration")  # none yet where the time was over at once
        self.best_epoch_ = made.num_boosted_rounds() if best is None else int(best) + 1
        self._note_if_cut()
        self.booster_ = made[: self.best_epoch_]

    def as_tensors(self) -> nn.Module:
        """The trees as a module of tensors, for export."""
        from stackwise.tasks.table.baselines.tensors import xgboost_tensors

        return xgboost_tensors(self)

    def _rows_of(self, arrays: TableArrays, part: LabelledRows | None = None) -> Any:
        codes = self.contract_.cardinalities
        own = {} if part is None else {"label": part.target, "weight": part.weight}
        return self.module.DMatrix(
            matrix(arrays, codes), feature_types=["q"] * self.contract_.n_numeric
            + ["c"] * len(codes), enable_categorical=True, nthread=self.threads or 0, **own,
        )  # fmt: skip

    def _margin(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "booster_")
        rows = self._rows_of(self.transform_columns(X))
        self.booster_.set_param({"nthread": self.threads or 0})
        return np.asarray(self.booster_.predict(rows, output_margin=True))


def _telling(xgboost: Any, tell: Callable[[int], None]) -> Any:
    """A callback that says after which round training is."""

    class Telling(xgboost.callback.TrainingCallback):  # type: ignore[misc, name-defined]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            tell(epoch + 1)
            return False

    return Telling()


def _stop_when(xgboost: Any, over: Callable[[], bool]) -> Any:
    """A callback that ends training when the time is over."""

    class Stop(xgboost.callback.TrainingCallback):  # type: ignore[misc, name-defined]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            return over()

    return Stop()


_CARD: dict[str, Any] = {
    "title": "XGBoost",
    "requires": {"xgboost": "boost"},
    "presets": {
        "quick": {"lr": 0.1, "max_trees": 300, "patience": 20},
        "standard": {},
        "best": {"lr": 0.02, "max_trees": 10_000, "patience": 200},
    },
}


@baseline("xgboost", problem="regression", **_CARD)
class XGBoostRegressor(NumberTarget, XGBoostLearner):
    """XGBoost with native categories, stopped early on the validation rows."""

    def __init__(self) -> None:
        """Boosted trees for a number."""

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64 predictions."""
        return self._in_own_unit(self._margin(X).astype(np.float64))


@baseline("xgboost", problem="classification", **_CARD)
class XGBoostClassifier(ClassTarget, XGBoostLearner):
    """XGBoost with native categories, stopped early on the validation rows."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (xgboost_knobs, booster_knobs, class_knobs)

    def __init__(self) -> None:
        """Boosted trees for a class."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) probabilities, in the order of `classes_`."""
        return self._probabilities(self._margin(X))
