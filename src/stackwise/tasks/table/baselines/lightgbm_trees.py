"""LightGBM on a table: trees that grow leaf by leaf, as a user would set them up."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.catalog import Knob, baseline
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.targets import ClassTarget, NumberTarget, class_knobs
from stackwise.tasks.table.baselines.class_cost import say_cost
from stackwise.tasks.table.baselines.tree_packages import Booster, booster_knobs, matrix


def lightgbm_knobs(
    *,
    max_leaf_nodes: Annotated[
        int, Knob("leaves of a tree at most", ge=2, log=True, search=(8, 256))
    ] = 31,
    min_samples_leaf: Annotated[
        int, Knob("rows of a leaf at least", ge=1, log=True, search=(1, 100))
    ] = 20,
    extra_trees: Annotated[
        bool, Knob("one random threshold a column, not the best: trees that differ more")
    ] = False,
) -> None:
    """The knobs that LightGBM has beside the shared ones."""


class LightGBMLearner(Booster):
    """LightGBM behind the columns of a table."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (lightgbm_knobs, booster_knobs)
    package: ClassVar[str] = "lightgbm"
    file: ClassVar[str] = "model.txt"
    exporter: ClassVar[str | None] = "stackwise.tasks.table.estimators.export:export"
    refusal: ClassVar[str] = "basic.LightGBMError"

    def _fit_parts(self, train_part: LabelledRows, held: LabelledRows | None) -> None:
        say_cost(self, len(train_part.target), self.contract_.n_numeric)
        lightgbm = self.module
        objective, scores = self._objective("regression", "binary", "multiclass")
        first, codes = self.contract_.n_numeric, self.contract_.cardinalities
        sets = [(train_part, self.contract_.transform(train_part.samples))]
        if held is not None and self.patience is not None:
            sets.append((held, self._quietly(held.samples)))
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
        if self.extra_trees:
            parameters |= {"extra_trees": True, "extra_seed": self.seed_}
        tell = self._teller()
        watching = []
        if len(given) > 1:
            watching.append(lightgbm.early_stopping(self.patience, verbose=False))
        calls = [
            lambda now: tell(now.iteration + 1),
            *watching,
            _stop_when(lightgbm, self._over(), *watching),
        ]
        self.booster_ = lightgbm.train(
            parameters, given[0], num_boost_round=self.max_trees, valid_sets=given[1:],
            callbacks=calls,
        )  # fmt: skip
        self.best_epoch_ = self.booster_.best_iteration or self.booster_.current_iteration()
        self._note_if_cut()

    def _margin(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "booster_")
        features = matrix(self.transform_columns(X), self.contract_.cardinalities)
        return np.asarray(
            self.booster_.predict(
                features, raw_score=True, num_iteration=self.best_epoch_,
                num_threads=self.threads or 0,
            )
        )  # fmt: skip

    def as_tensors(self) -> nn.Module:
        """The trees as a module of tensors, for export."""
        from stackwise.tasks.table.baselines.tensors import lightgbm_tensors

        return lightgbm_tensors(self)

    def _save(self, path: Path) -> None:
        self.booster_.save_model(path, num_iteration=self.best_epoch_)


def _stop_when(lightgbm: Any, over: Callable[[], bool], *watching: Any) -> Any:
    """A callback that ends training when the time is over.

    Args:
        watching: the callback of early stopping, where there is one: the best round so far is kept.
    """

    def call(environment: Any) -> None:
        if over():
            best = watching[0].best_iter[0] if watching else environment.iteration
            raise lightgbm.callback.EarlyStopException(
                best, environment.evaluation_result_list or []
            )

    call.order = 40  # type: ignore[attr-defined]  # after early stopping, which knows the best
    return call


_CARD: dict[str, Any] = {
    "title": "LightGBM",
    "presets": {
        "quick": {"lr": 0.1, "max_trees": 300, "patience": 20},
        "standard": {},
        "best": {"lr": 0.02, "max_trees": 10_000, "patience": 200, "max_leaf_nodes": 63},
    },
    "variants": {"": {}, "extra-trees": {"extra_trees": True}},
}


@baseline("lightgbm", problem="regression", **_CARD)
class LightGBMRegressor(NumberTarget, LightGBMLearner):
    """LightGBM with native categories, stopped early on the validation rows."""

    def __init__(self) -> None:
        """Boosted trees for a number."""

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64 predictions."""
        return self._in_own_unit(self._margin(X))


@baseline("lightgbm", problem="classification", **_CARD)
class LightGBMClassifier(ClassTarget, LightGBMLearner):
    """LightGBM with native categories, stopped early on the validation rows."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (lightgbm_knobs, booster_knobs, class_knobs)

    def __init__(self) -> None:
        """Boosted trees for a class."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) probabilities, in the order of `classes_`."""
        return self._probabilities(self._margin(X))
