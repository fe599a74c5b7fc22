"""The four stages against a plain assembly of scikit-learn's parts, by the rules of the paper."""

import warnings

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNetCV, LassoCV, LogisticRegression, RidgeCV
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from stackwise.combine.regularized_meta_learning.stacked_predictions import stack_predictions
from stackwise.combine.regularized_meta_learning.stages.meta_models import (
    RATIOS,
    RIDGE_ALPHAS,
    SPARSE_ALPHAS,
    Member,
    fit_members,
    standardise,
)
from stackwise.combine.regularized_meta_learning.stages.penalised import LeastSquares, Logistic
from stackwise.tasks.labelled.folds import make_folds

SEED, OUTER, INNER, TOL = 42, 3, 3, 1e-9


def matrix(rows: int = 90, models: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = 0.6 * rng.normal(size=rows) + 2
    P = y[:, None] + 0.5 * rng.normal(size=(rows, models)) * np.linspace(1, 2, models)
    copies = P[:, :2] + 0.05 * rng.normal(size=(rows, 2))
    return np.hstack([P, copies, np.full((rows, 1), 1.5)]), y


def plain_projection(P: np.ndarray, y: np.ndarray) -> list[int]:
    """Algorithm 2, read off the paper's rules, column by column."""
    kept: list[int] = []
    for j in np.argsort([np.sqrt(np.mean((P[:, j] - y) ** 2)) for j in range(P.shape[1])]):
        with np.errstate(invalid="ignore", divide="ignore"):
            copied = any(
                np.corrcoef(P[:, j], P[:, k])[0, 1] >= 0.95 and np.mean((P[:, j] - P[:, k]) ** 2)
                <= 0.01 for k in kept
            )  # fmt: skip
        if not copied:
            kept.append(int(j))
    return sorted(j for j in kept if P[:, j].var() >= 0.01)


def plain_features(Z: np.ndarray) -> np.ndarray:
    mu, sigma, reach = Z.mean(1), Z.std(1), Z.max(1) - Z.min(1)
    return np.column_stack([Z, mu, sigma, np.median(Z, 1), reach, mu * sigma, reach * sigma])


def plain_models(y: np.ndarray) -> dict:
    inner = make_folds(INNER, y, by_class=False, seed=SEED)
    sparse = {"alphas": SPARSE_ALPHAS, "cv": inner, "tol": TOL, "max_iter": 200_000}
    return {
        "ridge": RidgeCV(RIDGE_ALPHAS, cv=inner, scoring="neg_root_mean_squared_error"),
        "lasso": LassoCV(**sparse),
        "elasticnet": ElasticNetCV(l1_ratio=list(RATIOS), **sparse),
    }


def test_the_pipeline_equals_scikit_learns_parts_put_together_by_the_papers_rules():
    P, y = matrix()
    new, _ = matrix(seed=1)
    kept = plain_projection(P, y)
    assert 2 <= len(kept) < 6
    A, A_new = plain_features(P[:, kept]), plain_features(new[:, kept])
    oof = {name: np.empty(len(y)) for name in plain_models(y)}
    final = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for train, held in make_folds(OUTER, y, by_class=False, seed=SEED):
            scaler = StandardScaler().fit(A[train])
            for name, model in plain_models(y[train]).items():
                model.fit(scaler.transform(A[train]), y[train])
                oof[name][held] = model.predict(scaler.transform(A[held]))
        scaler = StandardScaler().fit(A)
        for name, model in plain_models(y).items():
            final[name] = model.fit(scaler.transform(A), y).predict(scaler.transform(A_new))
    errors = {name: np.sqrt(np.mean((o - y) ** 2)) for name, o in oof.items()}
    total = sum(1 / e for e in errors.values())
    weights = {name: (1 / e) / total for name, e in errors.items()}
    found = stack_predictions(
        P, y, new, mse_units="absolute", tau_mse=0.01, tau_var=0.01, honest=False, drop_worse=None,
        meta_cv=OUTER, inner_cv=INNER, random_state=SEED, tol=TOL, max_epochs=200_000,
    )  # fmt: skip
    assert found.stack.pipeline_.projection_.kept == kept
    assert found.stack.pipeline_.errors_ == pytest.approx(errors, rel=1e-6)
    assert found.stack.pipeline_.weights_ == pytest.approx(weights, rel=1e-6)
    expected = sum(weights[name] * final[name] for name in final)
    assert found.prediction == pytest.approx(expected, abs=1e-6)
    assert found.oof == pytest.approx(sum(weights[n] * oof[n] for n in oof), abs=1e-6)


def test_one_model_without_statistics_is_ridge_on_its_column():
    P, y = matrix()
    column, new = P[:, [0]], matrix(seed=1)[0][:, [0]]
    scaler = StandardScaler().fit(column)
    plain = plain_models(y)["ridge"].fit(scaler.transform(column), y)
    found = stack_predictions(
        column, y, new, statistics=False, interactions=False, meta=["ridge"], inner_cv=INNER,
        random_state=SEED,
    )  # fmt: skip
    assert found.prediction == pytest.approx(plain.predict(scaler.transform(new)), abs=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_sums_of_products_give_what_the_rows_give(weighted: bool):
    rng = np.random.default_rng(0)
    A, y = rng.normal(size=(80, 5)) + 3, rng.normal(size=80) + 7
    w = rng.integers(1, 4, size=80).astype(float) if weighted else np.ones(80)
    rows = np.repeat(np.arange(80), w.astype(int))
    options = {"unit": 2.0, "tol": 1e-12, "rounds": 10_000}
    solver, other = (LeastSquares(A[p], y[p], w[p], **options) for p in (slice(80), slice(30)))
    centred = A[rows] - A[rows].mean(0)
    goal = y[rows] - y[rows].mean()
    fits = solver.path(np.array([10.0, 0.1]), 0.0)
    some = np.repeat(np.arange(30), w[:30].astype(int))
    for alpha, (coef, bias), loss in zip((10.0, 0.1), fits, other.losses(fits), strict=True):
        plain = np.linalg.solve(centred.T @ centred + alpha * np.eye(5), centred.T @ goal)
        assert coef[0] == pytest.approx(plain, abs=1e-10)
        residuals = y[some] - A[some] @ coef[0] - bias
        assert loss == pytest.approx(np.mean(residuals**2))
    ((coef, _),) = solver.path(np.array([0.05]), 0.5)
    w, goal = coef[0] / 2, goal / 2  # the penalty holds in units of 2
    slope = centred.T @ (goal - centred @ w) / len(rows) - 0.05 * 0.5 * w
    assert slope[w != 0] == pytest.approx(0.025 * np.sign(w[w != 0]), abs=1e-8)
    assert (np.abs(slope[w == 0]) <= 0.025 + 1e-8).all()


def test_folds_that_are_no_partition_give_what_their_rows_give():
    P, y = matrix()
    A = plain_features(P[:, :4])
    ordered = make_folds(3, y, by_class=False, ordered=True)

    def solver(*rows: np.ndarray) -> LeastSquares:
        return LeastSquares(*rows, unit=1.0, tol=TOL, rounds=200_000)

    found = fit_members(A, y, ordered, ["lasso"], solver)["lasso"]
    scaled = StandardScaler().fit_transform(A)
    plain = LassoCV(alphas=SPARSE_ALPHAS, cv=ordered, tol=TOL, max_iter=200_000).fit(scaled, y)
    assert found.penalty == plain.alpha_
    assert found.predict(A) == pytest.approx(plain.predict(scaled), abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_logistic_meta_models_equal_scikit_learns(classes: int, ratio: float):
    rng = np.random.default_rng(0)
    codes = np.arange(150) % classes
    A = 2 * np.eye(classes)[codes] @ rng.normal(size=(classes, 6)) + 2 * rng.normal(size=(150, 6))
    columns, mean, scale = standardise(A, np.ones(150))
    solver = Logistic(columns, codes, np.ones(150), classes=classes, rounds=1000)
    fits = solver.path(np.array([0.01, 0.1]), ratio)
    coef, bias = fits[-1]
    ours = Member(0.1, ratio, mean, scale, coef, bias, by_class=True).predict(A)
    plain = LogisticRegression(
        C=0.1, l1_ratio=ratio, solver="lbfgs" if ratio == 0 else "saga", tol=1e-8, max_iter=20_000
    ).fit(columns, codes)
    assert ours == pytest.approx(plain.predict_proba(columns), abs=5e-4)
    assert solver.losses(fits)[1] == pytest.approx(log_loss(codes, ours), abs=1e-9)


def penalised_loss(columns, codes, coef, bias, penalty, ratio):
    logs = log_softmax(columns @ coef + bias, axis=1)[np.arange(len(codes)), codes]
    size = ratio * np.abs(coef).sum() + (1 - ratio) / 2 * np.square(coef).sum()
    return -logs.sum() + penalty * size


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_no_step_from_the_tied_weights_lowers_the_penalised_loss(ratio: float):
    rng = np.random.default_rng(0)
    codes = np.arange(120) % 3
    z = np.eye(3)[codes][:, :, None] + 1.5 * rng.normal(size=(120, 3, 4))
    columns, _, _ = standardise(z, np.ones(120))
    solver = Logistic(columns, codes, np.ones(120), classes=3, rounds=1000)
    ((coef, bias),) = solver.path(np.array([0.2]), ratio)

    def loss(coef: np.ndarray, bias: np.ndarray) -> float:
        return float(penalised_loss(columns, codes, coef, bias, 5.0, ratio))

    least = loss(coef, bias)
    assert least < loss(np.zeros(4), np.zeros(3)) - 1
    for step in (1e-3, -1e-3):
        for place in range(4):
            assert loss(coef + step * np.eye(4)[place], bias) > least
        for place in range(3):
            assert loss(coef, bias + step * np.eye(3)[place]) > least


@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_the_strongest_penalty_leaves_the_shares_of_the_classes(ratio: float):
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], [30, 90])
    solver = Logistic(rng.normal(size=(120, 4)), codes, np.ones(120), classes=2, rounds=1000)
    ((coef, bias),) = solver.path(np.array([1e-4]), ratio)
    assert (coef == 0).all()
    assert bias == pytest.approx(np.log(3), abs=1e-4)
