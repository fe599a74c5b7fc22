"""CatBoost on a table: symmetric trees, and categories by what earlier rows say of the target."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from stackwise.catalog import Knob, baseline
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.targets import ClassTarget, NumberTarget, class_knobs
from stackwise.tasks.table.baselines.tree_packages import Booster, booster_knobs
from stackwise.tasks.table.features.contract import TableArrays


def catboost_knobs(
    *,
    max_depth: Annotated[int, Knob("depth of a tree", ge=1, le=16, search=(3, 10))] = 6,
) -> None:
    """The knobs that CatBoost has beside the shared ones."""


class CatBoostLearner(Booster):
    """CatBoost behind the columns of a table."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (catboost_knobs, booster_knobs)
    package: ClassVar[str] = "catboost"
    extra: ClassVar[str] = "catboost"
    file: ClassVar[str] = "model.cbm"
    refusal: ClassVar[str] = "CatBoostError"

    def _fit_parts(self, train_part: LabelledRows, held: LabelledRows | None) -> None:
        objective, _ = self._objective("RMSE", "Logloss", "MultiClass")
        parameters: dict[str, Any] = {
            "loss_function": objective, "iterations": self.max_trees, "learning_rate": self.lr,
            "depth": self.max_depth, "l2_leaf_reg": self.l2, "rsm": self.column_share,
            "random_seed": self.seed_, "thread_count": self.threads or -1, "verbose": False,
            "allow_writing_files": False,
        }  # fmt: skip
        if self.row_share < 1:
            parameters |= {"bootstrap_type": "Bernoulli", "subsample": self.row_share}
        watched = None
        if held is not None and self.patience is not None:
            watched = self._rows_of(self._quietly(held.samples), held)
            parameters |= {"od_type": "Iter", "od_wait": self.patience, "use_best_model": True}
        made = self.module.CatBoost(parameters)
        made.fit(
            self._rows_of(self.contract_.transform(train_part.samples), train_part),
            eval_set=watched, callbacks=[_Round(self._over(), self._teller())],
        )  # fmt: skip
        self.best_epoch_ = made.tree_count_  # it keeps the best rounds alone
        self.booster_ = made
        self._note_if_cut()

    def _rows_of(self, arrays: TableArrays, part: LabelledRows | None = None) -> Any:
        numbers = pd.DataFrame(arrays.numeric.astype(np.float64))
        first = numbers.shape[1]
        codes = pd.DataFrame(arrays.categorical).set_axis(
            range(first, first + arrays.categorical.shape[1]), axis=1
        )
        own = {} if part is None else {"label": part.target, "weight": part.weight}
        return self.module.Pool(
            pd.concat([numbers, codes], axis=1), cat_features=list(codes.columns), **own
        )

    def _margin(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "booster_")
        rows = self._rows_of(self.transform_columns(X))
        found = self.booster_.predict(
            rows, prediction_type="RawFormulaVal", thread_count=self.threads or -1
        )
        return np.asarray(found)

    def _load_trees(self, path: Path) -> Any:
        return self.module.CatBoost().load_model(str(path))

    def _save(self, path: Path) -> None:
        self.booster_.save_model(str(path), format="cbm")


class _Round:
    """A callback that tells of training, and ends it when the time is over."""

    def __init__(self, over: Callable[[], bool], tell: Callable[[int], None]) -> None:
        self.over, self.tell = over, tell

    def after_iteration(self, info: Any) -> bool:
        """Whether to go on; the package asks for a method of this name."""
        self.tell(info.iteration)
        return not self.over()


_CARD: dict[str, Any] = {
    "title": "CatBoost",
    "requires": {"catboost": "catboost"},
    "presets": {
        "quick": {"lr": 0.1, "max_trees": 300, "patience": 20},
        "standard": {},
        "best": {"lr": 0.02, "max_trees": 10_000, "patience": 200},
    },
}


@baseline("catboost", problem="regression", **_CARD)
class CatBoostRegressor(NumberTarget, CatBoostLearner):
    """CatBoost with ordered statistics of categories, stopped early on the validation rows."""

    def __init__(self) -> None:
        """Boosted trees for a number."""

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64 predictions."""
        return self._margin(X).astype(np.float64)


@baseline("catboost", problem="classification", **_CARD)
class CatBoostClassifier(ClassTarget, CatBoostLearner):
    """CatBoost with ordered statistics of categories, stopped early on the validation rows."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (catboost_knobs, booster_knobs, class_knobs)

    def __init__(self) -> None:
        """Boosted trees for a class."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) probabilities, in the order of `classes_`."""
        return self._probabilities(self._margin(X))
