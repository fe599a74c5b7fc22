"""Stage 3: Ridge, Lasso and ElasticNet on the meta-features, their penalty chosen inside.

    Ridge       min_w ||y - A w||^2 + alpha ||w||_2^2
    Lasso       min_w (1/2n) ||y - A w||^2 + alpha ||w||_1
    ElasticNet  min_w (1/2n) ||y - A w||^2 + alpha (q ||w||_1 + (1 - q)/2 ||w||_2^2)

each with an intercept, on columns standardised by the rows that it learns from (Algorithm 3). Inner
folds choose alpha (and q): Ridge by the mean of the folds' root mean squared errors, the others by
the mean of their mean squared errors. All three share the sums of products of the inner folds
(gram.py), so that the rows are read once.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stackwise.combine.regularized_meta_learning.folds import Folds, is_partition
from stackwise.combine.regularized_meta_learning.gram import Sums, ridge_path, sparse_path

RIDGE_ALPHAS = np.logspace(-3, 5, 50)
SPARSE_ALPHAS = np.logspace(1, -5, 30)
"""Falling, for the path; in standard deviations of the target."""
RATIOS = (0.1, 0.5, 0.7, 0.9, 0.95, 0.99, 1.0)
KINDS = ("ridge", "lasso", "elasticnet")


@dataclass(frozen=True)
class LinearMember:
    """A fitted meta-model: intercept + sum_j coef_j (A_j - mean_j) / scale_j.

    Attributes:
        alpha, ratio: the chosen penalty and q (0 for Ridge, 1 for Lasso).
        mean, scale, coef: (p,) of the rows that it learned from, in the target's own unit.
    """

    alpha: float
    ratio: float
    mean: np.ndarray
    scale: np.ndarray
    coef: np.ndarray
    intercept: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(n,) predictions of (n, p) meta-features; no row depends on the others."""
        standard = np.ascontiguousarray((features - self.mean) / self.scale)
        return np.asarray((standard * self.coef).sum(1) + self.intercept)

    def as_dict(self) -> dict[str, Any]:
        """The member as plain JSON."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "LinearMember":
        """The inverse of `as_dict`."""
        arrays = {name: np.array(record[name]) for name in ("mean", "scale", "coef")}
        return cls(**record | arrays)


def standardise(
    columns: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns with mean 0 and deviation 1, their means and deviations (1 where constant)."""
    mean = np.average(columns, axis=0, weights=weight)
    centred = columns - mean
    scale = np.sqrt(np.average(np.square(centred), axis=0, weights=weight))
    scale = np.where(scale <= 10 * np.finfo(np.float64).eps * np.abs(mean), 1.0, scale)
    scale = np.where(scale > 0, scale, 1.0)
    return centred / scale, mean, scale


def fit_members(
    features: np.ndarray,
    target: np.ndarray,
    inner: Folds,
    kinds: Iterable[str] = KINDS,
    *,
    weight: np.ndarray | None = None,
    relative: bool = True,
    one_se: bool = False,
    tol: float = 1e-5,
    rounds: int = 10_000,
) -> dict[str, LinearMember]:
    """Choose the penalties on the inner folds, then fit on all rows.

    Args:
        features: (n, p) meta-features.
        target: (n,).
        inner: folds of these rows.
        relative: alphas of Lasso and ElasticNet are in standard deviations of the target.
        one_se: the largest penalty within one standard error of the best, not the best.
        tol, rounds: of coordinate descent, see `gram.sparse_path`.
    """
    columns, mean, scale = standardise(features, weight)
    centre = float(np.average(target, weights=weight))
    spread = float(np.sqrt(np.average(np.square(target - centre), weights=weight)))
    unit = spread if relative and spread > 0 else 1.0
    parts = _parts(columns, (target - centre) / unit, inner, weight)
    whole = parts.whole
    members = {}
    sparse: dict[float, np.ndarray] = {}
    for kind in kinds:
        if kind == "ridge":
            scores = np.array(
                [
                    _fold_errors(train, held, ridge_path(train, RIDGE_ALPHAS))
                    for train, held in parts.folds
                ]
            )
            place = _choose(np.sqrt(scores), one_se, falling=False)
            alpha, ratio = float(RIDGE_ALPHAS[place]), 0.0
            coef = ridge_path(whole, RIDGE_ALPHAS[[place]])[0]
        else:
            ratios = RATIOS if kind == "elasticnet" else (1.0,)
            for ratio in ratios:
                if ratio not in sparse:
                    sparse[ratio] = np.array(
                        [
                            _fold_errors(
                                train,
                                held,
                                sparse_path(train, SPARSE_ALPHAS, ratio, tol=tol, rounds=rounds),
                            )
                            for train, held in parts.folds
                        ]
                    )
            ratio = min(ratios, key=lambda q: sparse[q].mean(0).min())
            place = _choose(sparse[ratio], one_se, falling=True)
            alpha = float(SPARSE_ALPHAS[place])
            coef = sparse_path(
                whole, SPARSE_ALPHAS[: place + 1], ratio, tol=tol, rounds=rounds
            )[-1]  # fmt: skip
        intercept = float(whole.intercepts(coef[None])[0])
        members[kind] = LinearMember(
            alpha, ratio, mean, scale, coef * unit, centre + intercept * unit
        )
    return members


@dataclass(frozen=True)
class _Parts:
    folds: list[tuple[Sums, Sums]]
    whole: Sums


def _parts(
    columns: np.ndarray, target: np.ndarray, inner: Folds, weight: np.ndarray | None
) -> _Parts:
    """The sums of the training and the held-out rows of each fold, and of all rows."""

    def of(rows: np.ndarray) -> Sums:
        return Sums.of(columns[rows], target[rows], None if weight is None else weight[rows])

    held = [of(rows) for _, rows in inner]
    if not is_partition(inner, len(target)):
        return _Parts(
            [(of(train), part) for (train, _), part in zip(inner, held, strict=True)],
            of(np.arange(len(target))),
        )
    whole = _total(held)
    # the other folds are added up, not taken off the whole: nothing cancels
    rest = [_total(held[:place] + held[place + 1 :]) for place in range(len(held))]
    return _Parts(list(zip(rest, held, strict=True)), whole)


def _total(parts: list[Sums]) -> Sums:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _fold_errors(train: Sums, held: Sums, coefs: np.ndarray) -> np.ndarray:
    return held.errors(coefs, train.intercepts(coefs))


def _choose(scores: np.ndarray, one_se: bool, *, falling: bool) -> int:
    """The place of the penalty to take, from (folds, G) scores."""
    mean = scores.mean(0)
    best = int(mean.argmin())
    if not one_se or len(scores) < 2:
        return best
    reach = mean[best] + scores[:, best].std(ddof=1) / np.sqrt(len(scores))
    within = np.flatnonzero(mean <= reach)
    return int(within[0] if falling else within[-1])
