"""What every comparison on a table includes: a plain MLP, gradient boosting and a linear model.

A method that does not beat them has earned nothing. Each has the same view of the columns, the
same validation rows and presets of its own, so that it is as good as a user would make it:

- `mlp`: linear layers, ReLU and dropout on scaled numbers and one-hot categories, in the training
  loop of the methods;
- `gradient-boosting`: scikit-learn's histogram trees on raw numbers (missing ones included) and
  native categories, stopped early;
- `linear`: ridge or logistic regression on scaled numbers and one-hot categories, its penalty
  chosen by cross-validation.

The last two are kept with skops: a file of arrays and names, of which only the listed types load.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import threadpoolctl
from scipy.sparse import csr_array
from scipy.special import softmax
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.validation import check_is_fitted

from stackwise.catalog import Knob, baseline
from stackwise.errors import RunError
from stackwise.files import replacing
from stackwise.tasks.table.contract import FeatureContract, TableArrays
from stackwise.tasks.table.estimator import (
    ClassTarget,
    NumberTarget,
    Part,
    TableEstimator,
    class_knobs,
    validation_rows,
)
from stackwise.tasks.table.mlp import MLP, MLPClassifier, MLPRegressor
from stackwise.tasks.table.outputs import validation_scores

__all__ = [
    "MLP", "GradientBoostingClassifier", "GradientBoostingRegressor", "LinearClassifier",
    "LinearRegressor", "MLPClassifier", "MLPRegressor",
]  # fmt: skip

TRUSTED = [
    "functools.partial",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
]
"""Types of scikit-learn in a kept model that skops does not trust by itself."""

MOST_CODES = 254
"""Histogram trees split on at most this many categories; a longer list is taken as a number."""

CHOOSING_ROWS = 20_000
"""Rows on which the linear models choose their penalty; they are fitted on all."""

PENALTIES = np.logspace(-3, 3, 13)


class SkopsLearner(TableEstimator):
    """A scikit-learn estimator behind the columns of a table. Fitted: `estimator_`."""

    uses_training_loop: ClassVar[bool] = False

    def _write(self, folder: Path) -> dict[str, Any]:
        from skops import io

        with replacing(folder / "model.skops") as beside:
            io.dump(self.estimator_, beside)
        return {}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        from skops import io

        path = folder / "model.skops"
        if not path.is_file():
            raise RunError(f"{path} does not exist; the folder is not a finished stackwise run")
        try:
            self.estimator_ = io.load(path, trusted=TRUSTED)
        except Exception as error:
            raise RunError(
                f"{path} is damaged or holds types that are not trusted ({error})"
            ) from error


def boosting_knobs(
    *,
    lr: Annotated[
        float, Knob("shrinkage of each tree", gt=0, le=1, log=True, search=(0.01, 0.3))
    ] = 0.1,
    max_epochs: Annotated[int, Knob("trees at most (per class)", ge=1, le=100_000)] = 500,
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

    def _contract_options(self) -> dict[str, Any]:
        return {"numeric": None, "keep_missing": True}

    def _fit_parts(self, train_part: Part, held: Part | None) -> None:
        first = self.contract_.n_numeric
        native = [
            first + place
            for place, codes in enumerate(self.contract_.cardinalities)
            if codes <= MOST_CODES
        ]
        build = HistGradientBoostingClassifier if self._by_class else HistGradientBoostingRegressor
        made = build(
            learning_rate=self.lr, max_iter=self.max_epochs, max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf, l2_regularization=self.l2,
            categorical_features=native or None, random_state=self.seed_,
            early_stopping=held is not None and self.patience is not None,
            n_iter_no_change=self.patience or 1,
        )  # fmt: skip
        given: dict[str, Any] = {}
        if made.early_stopping and held is not None:
            given = {
                "X_val": _matrix(self._quietly(held.frame)),
                "y_val": held.target,
                "sample_weight_val": held.weight,
            }
        with _threads(self.threads):
            made.fit(
                _matrix(self.contract_.transform(train_part.frame)), train_part.target,
                sample_weight=train_part.weight, **given,
            )  # fmt: skip
        self.estimator_ = made


def _matrix(arrays: TableArrays) -> np.ndarray:
    """(n, n_numeric + n_categorical) float64: numbers, then codes."""
    return np.hstack([arrays.numeric.astype(np.float64), arrays.categorical])


_BOOSTING: dict[str, Any] = {
    "title": "Gradient boosting (histogram trees)",
    "presets": {
        "quick": {"max_epochs": 200, "patience": 10},
        "standard": {},
        "best": {
            "lr": 0.03,
            "max_epochs": 3000,
            "patience": 60,
            "max_leaf_nodes": 63,
            "l2": 1.0,
        },
    },
}


@baseline("gradient-boosting", problem="regression", **_BOOSTING)
class GradientBoostingRegressor(NumberTarget, BoostingLearner):
    """scikit-learn's histogram gradient boosting, with native categories and early stopping."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (boosting_knobs,)

    def __init__(self) -> None:
        """Boosted trees for a number."""

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64 predictions."""
        check_is_fitted(self, "estimator_")
        with _threads(self.threads):
            return np.asarray(self.estimator_.predict(_matrix(self.transform_columns(X))))


@baseline("gradient-boosting", problem="classification", **_BOOSTING)
class GradientBoostingClassifier(ClassTarget, BoostingLearner):
    """scikit-learn's histogram gradient boosting, with native categories and early stopping."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (boosting_knobs, class_knobs)

    def __init__(self) -> None:
        """Boosted trees for a class."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) probabilities, in the order of `classes_`."""
        check_is_fitted(self, "estimator_")
        with _threads(self.threads):
            return np.asarray(self.estimator_.predict_proba(_matrix(self.transform_columns(X))))


def linear_knobs(
    *,
    penalty: Annotated[
        float | None,
        Knob(
            "strength of the squared penalty; none = chosen by cross-validation",
            gt=0,
            log=True,
        ),
    ] = None,
    folds: Annotated[int, Knob("random thirds that choose the penalty", ge=1, le=20)] = 3,
    preprocess: Annotated[
        Literal["quantile", "standard"] | None, Knob("how numbers are scaled")
    ] = "standard",
    max_epochs: Annotated[int, Knob("steps of the solver at most", ge=1)] = 300,
    threads: Annotated[int | None, Knob("threads to compute with", ge=1)] = None,
    random_state: Annotated[int | None, Knob("seed of everything random", ge=0)] = 0,
) -> None:
    """The knobs of the linear models."""


class LinearLearner(SkopsLearner):
    """A linear model with a squared penalty. Fitted: `penalty_`, the strength that was chosen."""

    def _fit_parts(self, train_part: Part, held: Part | None) -> None:
        features = _one_hot_rows(self.contract_, self.contract_.transform(train_part.frame))
        with _threads(self.threads), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.penalty_ = self.penalty or self._choose(features, train_part)
            self.estimator_ = self._solve(features, train_part, self.penalty_)

    def _solve(self, features: csr_array, part: Part, strength: float) -> Any:
        """Fit the linear model of this penalty."""
        if self._by_class:
            made: Any = LogisticRegression(C=1 / strength, max_iter=self.max_epochs)
        else:
            made = Ridge(alpha=strength, solver="sparse_cg", tol=1e-6, max_iter=self.max_epochs)
        return made.fit(features, part.target, sample_weight=part.weight)

    def _choose(self, features: csr_array, part: Part) -> float:
        """The penalty with the lowest loss on random thirds of (some of) the rows."""
        rows = np.random.default_rng(self.seed_).permutation(len(part.target))[:CHOOSING_ROWS]
        loss = np.zeros(len(PENALTIES))
        for fold in range(self.folds):
            held = validation_rows(part.target[rows], 1 / 3, self._by_class, self.seed_ + fold)
            if not held.any() or (self._by_class and len(np.unique(part.target[rows[~held]])) < 2):
                return 1.0
            known, judged = rows[~held], rows[held]
            for place, strength in enumerate(PENALTIES):
                made = self._solve(features[known], part.take(known), strength)
                loss[place] += self._loss(made, features[judged], part.take(judged))
        return float(PENALTIES[loss.argmin()])

    def _loss(self, made: Any, features: csr_array, part: Part) -> float:
        scores = _scores(made, features)
        if not self._by_class:
            return validation_scores(scores, part.target, part.weight, classes=False)["rmse"]
        present = np.searchsorted(made.classes_, part.target)
        return validation_scores(softmax(scores, axis=1), present, part.weight, classes=True)[
            "log_loss"
        ]


def _one_hot_rows(contract: FeatureContract, arrays: TableArrays) -> csr_array:
    """(n, n_numeric + sum of cardinalities): numbers and one-hot codes; unseen is all zeros."""
    sizes = np.array(contract.cardinalities, dtype=np.int64)
    starts = contract.n_numeric + np.concatenate([[0], sizes.cumsum()])[:-1]
    known = arrays.categorical < sizes
    rows, places = np.nonzero(known)
    columns = (arrays.categorical + starts)[rows, places]
    hot = csr_array(
        (np.ones(len(rows)), (rows, columns)),
        shape=(len(arrays), contract.n_numeric + int(sizes.sum())),
    )
    numbers = csr_array(arrays.numeric.astype(np.float64))
    numbers.resize(hot.shape)
    return csr_array(numbers + hot)


def _scores(made: Any, features: csr_array) -> np.ndarray:
    """(n, C) linear scores; a sparse product goes row by row, so that rows stay independent."""
    weights = np.atleast_2d(made.coef_).T
    scores = features @ np.ascontiguousarray(weights) + made.intercept_
    if scores.shape[1] == 1 and hasattr(made, "classes_"):
        return np.hstack([np.zeros_like(scores), scores])
    return np.asarray(scores)


_LINEAR: dict[str, Any] = {
    "title": "Linear model (ridge or logistic regression)",
    "presets": {
        "quick": {"folds": 1, "max_epochs": 100},
        "standard": {},
        "best": {"folds": 5, "max_epochs": 2000, "preprocess": "quantile"},
    },
}


@baseline("linear", problem="regression", **_LINEAR)
class LinearRegressor(NumberTarget, LinearLearner):
    """Ridge regression on scaled numbers and one-hot categories, its penalty cross-validated."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (linear_knobs,)

    def __init__(self) -> None:
        """A linear model for a number."""

    def predict(self, X: Any) -> np.ndarray:
        """(n,) float64 predictions."""
        check_is_fitted(self, "estimator_")
        features = _one_hot_rows(self.contract_, self.transform_columns(X))
        return _scores(self.estimator_, features)[:, 0]


@baseline("linear", problem="classification", **_LINEAR)
class LinearClassifier(ClassTarget, LinearLearner):
    """Logistic regression on scaled numbers and one-hot categories, its penalty cross-validated."""

    shared_knobs: ClassVar[tuple[Any, ...]] = (linear_knobs, class_knobs)

    def __init__(self) -> None:
        """A linear model for a class."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) probabilities, in the order of `classes_`."""
        check_is_fitted(self, "estimator_")
        features = _one_hot_rows(self.contract_, self.transform_columns(X))
        return np.asarray(softmax(_scores(self.estimator_, features), axis=1))


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Compute with this many threads; None leaves the number as it is."""
    with threadpoolctl.threadpool_limits(count) if count else contextlib.nullcontext():
        yield
