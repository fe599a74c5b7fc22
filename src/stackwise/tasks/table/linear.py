"""Linear models on a table: ridge and logistic regression with a penalty chosen on the data.

Numbers are standardised and categories one-hot. The penalty is the one with the lowest loss on
random thirds of the training rows; the model is then fitted on all of them.
"""

import warnings
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from scipy.sparse import csr_array
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.validation import check_is_fitted

from stackwise.catalog import Knob, baseline
from stackwise.tasks.table.contract import FeatureContract, TableArrays
from stackwise.tasks.table.estimator import Part, validation_rows
from stackwise.tasks.table.kept import SkopsLearner, computing_with
from stackwise.tasks.table.outputs import validation_scores
from stackwise.tasks.table.targets import ClassTarget, NumberTarget, class_knobs

CHOOSING_ROWS = 20_000
"""Rows on which the linear models choose their penalty; they are fitted on all."""

PENALTIES = np.logspace(-3, 3, 13)


def linear_knobs(
    *,
    penalty: Annotated[
        float | None,
        Knob(
            "strength of the squared penalty; none = chosen by cross-validation",
            gt=0,
            log=True,
            search=(1e-3, 1e3),
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
        features = one_hot_rows(self.contract_, self.contract_.transform(train_part.frame))
        with computing_with(self.threads), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.penalty_ = self.penalty or self._choose(features, train_part)
            self.estimator_ = self._solve(features, train_part, self.penalty_)

    def _solve(self, features: csr_array, part: Part, strength: float) -> Any:
        """Fit the linear model of this penalty."""
        made: Any
        if self._by_class:
            made = LogisticRegression(C=1 / strength, max_iter=self.max_epochs)
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


def one_hot_rows(contract: FeatureContract, arrays: TableArrays) -> csr_array:
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
        features = one_hot_rows(self.contract_, self.transform_columns(X))
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
        features = one_hot_rows(self.contract_, self.transform_columns(X))
        return np.asarray(softmax(_scores(self.estimator_, features), axis=1))
