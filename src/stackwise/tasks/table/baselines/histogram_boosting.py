"""Gradient boosting on a table: scikit-learn's histogram trees, as a user would set them up.

Numbers stay raw and may be missing, categories are split natively, and the number of trees is
chosen on the validation rows.
"""

import time
from typing import Annotated, Any, ClassVar

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.catalog import Knob, baseline
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.targets import ClassTarget, NumberTarget, class_knobs
from stackwise.tasks.table.baselines.class_cost import say_cost
from stackwise.tasks.table.estimators.kept import SkopsLearner, computing_with
from stackwise.tasks.table.features.contract import TableArrays
from stackwise.training.session import current_session

MOST_CODES = 254
"""Histogram trees split on at most this many categories; a longer list is taken as a number."""
FIRST_TREES = 5
"""Trees that are grown to see how long one takes, where there is a time limit."""


def boosting_knobs(
    *,
    lr: Annotated[
        float, Knob("shrinkage of each tree", gt=0, le=1, log=True, search=(0.01, 0.3))
    ] = 0.1,
    max_trees: Annotated[int, Knob("trees at most (per class)", ge=1, le=100_000)] = 500,
    patience: Annotated[
        int | None,
        Knob("trees without a better validation score before stopping", ge=1),
    ] = 20,
    max_leaf_nodes: Annotated[
        int, Knob("leaves of a tree at most", ge=2, log=True, search=(8, 256))
    ] = 31,
    min_samples_leaf: Annotated[
        int, Knob("rows of a leaf at least", ge=1, log=True, search=(1, 100))
    ] = 20,
    l2: Annotated[float, Knob("penalty of the leaves' values", ge=0, search=(0.0, 10.0))] = 0.0,
    validation: Annotated[
        float, Knob("part of the rows that decides when to stop; 0 = none", ge=0, lt=1)
    ] = 0.2,
    threads: Annotated[int | None, Knob("threads to compute with", ge=1)] = None,
    random_state: Annotated[int | None, Knob("seed of everything random", ge=0)] = 0,
) -> None:
    """The knobs of gradient boosting."""


class BoostingLearner(SkopsLearner):
    """Gradient boosting on histograms; numbers stay raw and may be missing."""

    budget: ClassVar[str | None] = "max_trees"
    exporter: ClassVar[str | None] = "stackwise.tasks.table.estimators.export:export"
    shared_knobs: ClassVar[tuple[Any, ...]] = (boosting_knobs,)

    def learned_for(self) -> int | None:
        """The trees that were grown."""
        return int(self.estimator_.n_iter_)

    def as_tensors(self) -> nn.Module:
        """The trees as a module of tensors, for export."""
        from stackwise.tasks.table.baselines.tensors import histogram_tensors

        return histogram_tensors(self)

    def _contract_options(self) -> dict[str, Any]:
        return {"numeric": None, "keep_missing": True}

    def whole_knobs(self) -> dict[str, Any]:
        """As many trees as were kept, and no rows that decide it."""
        return {"max_trees": int(self.estimator_.n_iter_), "patience": None, "validation": 0.0}

    def _fit_parts(self, train_part: LabelledRows, held: LabelledRows | None) -> None:
        say_cost(self, len(train_part.target), self.contract_.n_numeric)
        first = self.contract_.n_numeric
        native = [
            first + place
            for place, codes in enumerate(self.contract_.cardinalities)
            if codes <= MOST_CODES
        ]
        build = HistGradientBoostingClassifier if self._by_class else HistGradientBoostingRegressor
        made = build(
            learning_rate=self.lr, max_iter=self.max_trees, max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf, l2_regularization=self.l2,
            categorical_features=native or None, random_state=self.seed_,
            early_stopping=held is not None and self.patience is not None,
            n_iter_no_change=self.patience or 1,
        )  # fmt: skip
        given: dict[str, Any] = {}
        if made.early_stopping and held is not None:
            given = {
                "X_val": _matrix(self._quietly(held.samples)),
                "y_val": held.target,
                "sample_weight_val": held.weight,
            }
        rows = _matrix(self.contract_.transform(train_part.samples))
        given |= {"sample_weight": train_part.weight}
        with computing_with(self.threads):
            left = current_session().seconds_left()
            if left is None:
                made.fit(rows, train_part.target, **given)
            elif self._grow_in_time(made, rows, train_part.target, given, left):
                self.notes_.append(
                    f"the time limit ended training after {made.n_iter_} of at most "
                    f"{self.max_trees} trees; more time may help"
                )
        self.estimator_ = made

    def _grow_in_time(
        self, made: Any, rows: np.ndarray, target: np.ndarray, given: dict[str, Any], left: float
    ) -> bool:
        """Grow some trees, then as many as the time that is left allows, in steps that double.

        Returns:
            Whether the limit ended it.
        """
        end = time.monotonic() + left
        grown, more = 0, FIRST_TREES
        while more and grown < self.max_trees:
            began = time.monotonic()
            made.set_params(warm_start=grown > 0, max_iter=min(grown + more, self.max_trees))
            made.fit(rows, target, **given)
            if made.n_iter_ < made.max_iter:
                return False
            one = (time.monotonic() - began) / (made.n_iter_ - grown)
            grown = made.n_iter_
            more = max(min(2 * more, int(0.8 * (end - time.monotonic()) / one)), 0)
        return grown < self.max_trees


def _matrix(arrays: TableArrays) -> np.ndarray:
    """(n, n_numeric + n_categorical) float64: numbers, then codes."""
    return np.hstack([arrays.numeric.astype(np.float64), arrays.categorical])


_BOOSTING: dict[str, Any] = {
    "title": "Gradient boosting (histogram trees)",
    "presets": {
        "quick": {"max_trees": 200, "patience": 10},
        "standard": {},
        "best": {
            "lr": 0.03,
            "max_trees": 3000,
            "patience": 60,
            "max_leaf_nodes": 63,
            "l2": 1.0,
        },
    },
}


@baseline("gradient-boosting", problem="regression", **_BOOSTING)
class GradientBoostingRegressor(NumberTarget, BoostingLearner):
    """scikit-learn's histogram gradient boosting, with native categories and early stopping."""

    def __init__(self) -> None:
        """Boosted trees for a number."""

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64 predictions."""
        check_is_fitted(self, "estimator_")
        with computing_with(self.threads):
            found = self.estimator_.predict(_matrix(self.transform_columns(X)))
        return self._in_own_unit(np.asarray(found))


@baseline("gradient-boosting", problem="classification", **_BOOSTING)
class GradientBoostingClassifier(ClassTarget, BoostingLearner):
    """scikit-learn's histogram gradient boosting, with native categories and early stopping."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (boosting_knobs, class_knobs)

    def __init__(self) -> None:
        """Boosted trees for a class."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) probabilities, in the order of `classes_`."""
        check_is_fitted(self, "estimator_")
        with computing_with(self.threads):
            return np.asarray(self.estimator_.predict_proba(_matrix(self.transform_columns(X))))
