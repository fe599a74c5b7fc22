"""Stacking a matrix of predictions: ours, scikit-learn's parts put together, and hill climbing.

- meta-models: Ridge, Lasso and ElasticNet with nested cross-validation on the same meta-features,
  folds, penalties and tolerance; ours from sums of products, the peer by `RidgeCV`, `LassoCV` and
  `ElasticNetCV` in each outer fold;
- the whole pipeline against greedy hill climbing over the same matrix, which chooses counts alone;
- hill climbing: ours through one Gram matrix, the peer over all rows in each round.
"""

import warnings
from functools import partial

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNetCV, LassoCV, RidgeCV
from sklearn.preprocessing import StandardScaler

from side_by_side import alternate, line
from stackwise.combine.regularized_meta_learning.hill_climbing import hill_climb
from stackwise.combine.regularized_meta_learning.stacked_predictions import stack_predictions
from stackwise.combine.regularized_meta_learning.stages.meta_features import augment
from stackwise.combine.regularized_meta_learning.stages.meta_models import (
    KINDS,
    RATIOS,
    RIDGE_ALPHAS,
    SPARSE_ALPHAS,
    fit_members,
)
from stackwise.combine.regularized_meta_learning.stages.penalised import LeastSquares
from stackwise.tasks.labelled.folds import Folds, make_folds

SIZES = {"500 rows x 8 models": (500, 8, 3), "4,000 rows x 16 models": (4_000, 16, 1),
         "20,000 rows x 24 models": (20_000, 24, 1)}  # fmt: skip
OUTER, INNER, TOL, ROUNDS = 3, 3, 1e-4, 10_000
SIMPLER = (
    "hill climbing chooses counts and no signed weights; the pipeline fits 260 penalised models in "
    "each of 18 parts of the rows"
)


def matrix(rows: int, models: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions with shared and own errors, and their target of deviation 1."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=rows)
    shared = rng.normal(size=(rows, 4)) @ rng.normal(size=(4, models))
    return y[:, None] + 0.2 * shared + 0.3 * rng.normal(size=(rows, models)), y


def ours(A: np.ndarray, y: np.ndarray, outer: Folds) -> list[np.ndarray]:
    """Out-of-fold predictions of the three meta-models, and their fits on all rows."""
    oof = {name: np.empty(len(y)) for name in ("ridge", "lasso", "elasticnet")}

    def fit(rows: np.ndarray) -> dict:
        inner = make_folds(INNER, y[rows], by_class=False)
        solver = partial(LeastSquares, unit=1.0, tol=TOL, rounds=ROUNDS)
        return fit_members(A[rows], y[rows], inner, KINDS, solver)

    for train, held in outer:
        for name, member in fit(train).items():
            oof[name][held] = member.predict(A[held])
    return [*oof.values(), *(member.predict(A) for member in fit(np.arange(len(y))).values())]


def scikit(A: np.ndarray, y: np.ndarray, outer: Folds) -> list[np.ndarray]:
    """The same by scikit-learn's estimators."""
    oof = [np.empty(len(y)) for _ in range(3)]

    def models(rows: np.ndarray) -> list:
        inner = make_folds(INNER, y[rows], by_class=False)
        sparse = {"alphas": SPARSE_ALPHAS, "cv": inner, "tol": TOL, "max_iter": ROUNDS}
        return [
            RidgeCV(RIDGE_ALPHAS, cv=inner, scoring="neg_root_mean_squared_error"),
            LassoCV(**sparse),
            ElasticNetCV(l1_ratio=list(RATIOS), **sparse),
        ]

    for train, held in outer:
        scaler = StandardScaler().fit(A[train])
        for place, model in enumerate(models(train)):
            model.fit(scaler.transform(A[train]), y[train])
            oof[place][held] = model.predict(scaler.transform(A[held]))
    everything = np.arange(len(y))
    standard = StandardScaler().fit_transform(A)
    return [*oof, *(model.fit(standard, y).predict(standard) for model in models(everything))]


def plain_hill_climb(P: np.ndarray, y: np.ndarray, rounds: int = 100) -> np.ndarray:
    """Greedy selection with replacement, by the error of every candidate mean over all rows."""
    total, counts = np.zeros(len(y)), np.zeros(P.shape[1])
    for step in range(1, rounds + 1):
        errors = np.square((total[:, None] + P) / step - y[:, None]).mean(0)
        counts[errors.argmin()] += 1
        total += P[:, errors.argmin()]
    return counts


def main() -> None:
    """Print a line a case."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    threads = torch.get_num_threads()
    for case, (rows, models, repeats) in SIZES.items():
        P, y = matrix(rows, models)
        A = augment(P)
        outer = make_folds(OUTER, y, by_class=False)
        for one, other in zip(ours(A, y, outer), scikit(A, y, outer), strict=True):
            assert np.abs(one - other).max() < 0.02, "the two do not compute the same"
        found = alternate(partial(ours, A, y, outer), partial(scikit, A, y, outer), repeats)
        line(f"meta-models, {case}", *found, "RidgeCV, LassoCV and ElasticNetCV of scikit-learn",
             "s", "float64", threads)  # fmt: skip
        found = alternate(lambda P=P, y=y: stack_predictions(P, y),
                          lambda P=P, y=y: plain_hill_climb(P, y), repeats)  # fmt: skip
        line(f"whole pipeline, {case}", *found, "hill climbing over all rows", "s", "float64",
             threads, SIMPLER)  # fmt: skip
        found = alternate(lambda P=P, y=y: hill_climb(P, y),
                          lambda P=P, y=y: plain_hill_climb(P, y), 3 * repeats)  # fmt: skip
        line(f"hill climbing, {case}", *found, "hill climbing over all rows", "s", "float64",
             threads)  # fmt: skip


if __name__ == "__main__":
    main()
