"""Stage 3 for classes: logistic regression on the meta-features, with three penalties.

    min_w  -sum_i log p(y_i | a_i, w) + (1/C) (q ||w||_1 + (1 - q)/2 ||w||_2^2)

with q = 0 (ridge), 1 (lasso) and between (elastic net), and intercepts that are free. One of
three shapes, all on standardised columns:

- two classes: one weight a column, the log-odds are b + w . a;
- `tied`: logit_k = b_k + w . a_k, one weight a model, the same for all classes;
- otherwise logit_k = b_k + w_k . a, where a holds the columns of all classes.

Each Newton step minimises the quadratic model of the loss plus the penalty by coordinate descent
(gram.py), as glmnet does. Penalties fall along a path,
each fit beginning at the one before, and C is the one with the smallest log loss on inner folds.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax

from stackwise.combine.regularized_meta_learning.folds import Folds
from stackwise.combine.regularized_meta_learning.gram import quadratic_path
from stackwise.combine.regularized_meta_learning.log_odds import log_loss, to_probabilities

STRENGTHS = np.logspace(-4, 2, 13)
"""C, rising: the strongest penalty first."""
RATIOS = (0.1, 0.5, 0.9)
ENOUGH = 1e-7
"""A path's step ends where a Newton step lowers the mean loss by less than this."""
STEPS = 50
INNER_TOL = 1e-7
INNER_ROUNDS = 300


@dataclass(frozen=True)
class LogisticMember:
    """A fitted meta-model for classes.

    Attributes:
        strength, ratio: the chosen C and q.
        mean: (p,), or tied (C, p), of the columns that it learned from; scale: (p,).
        coef: (1, p) for two classes, (p,) tied, (C, p) otherwise.
        bias: (1,) or (C,).
    """

    strength: float
    ratio: float
    mean: np.ndarray
    scale: np.ndarray
    coef: np.ndarray
    bias: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(n, C) probabilities of (n, p), or tied (n, C, p), meta-features."""
        standard = np.ascontiguousarray((features - self.mean) / self.scale)
        return to_probabilities(_scores(standard, self.coef, self.bias))

    def as_dict(self) -> dict[str, Any]:
        """The member as plain JSON."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "LogisticMember":
        """The inverse of `as_dict`."""
        arrays = {name: np.array(record[name]) for name in ("mean", "scale", "coef", "bias")}
        return cls(**record | arrays)


def fit_class_members(
    features: np.ndarray,
    codes: np.ndarray,
    classes: int,
    inner: Folds,
    kinds: Iterable[str],
    *,
    weight: np.ndarray | None = None,
    one_se: bool = False,
    rounds: int = 10_000,
) -> dict[str, LogisticMember]:
    """Choose C (and q) on the inner folds, then fit on all rows.

    Args:
        features: (n, p), or (n, C, p) for tied weights.
        codes: (n,) int64 class of each row.
        inner: folds of these rows.
        one_se: the smallest C within one standard error of the best, not the best.
        rounds: Newton steps of a fit at most.
    """
    columns, mean, scale = _standardise(features, weight)
    rows_weight = np.ones(len(codes)) if weight is None else weight
    steps = min(rounds, STEPS)
    scores: dict[float, np.ndarray] = {}

    def score(ratio: float) -> np.ndarray:
        if ratio not in scores:
            scores[ratio] = np.array(
                [
                    [
                        log_loss(
                            to_probabilities(_scores(columns[held], *found)), codes[held],
                            rows_weight[held],
                        )
                        for found in _path(columns[train], codes[train], classes,
                                           rows_weight[train], STRENGTHS, ratio, steps)
                    ]
                    for train, held in inner
                ]
            )  # fmt: skip
        return scores[ratio]

    members = {}
    for kind in kinds:
        ratios = {"ridge": (0.0,), "lasso": (1.0,)}.get(kind, RATIOS)
        ratio = min(ratios, key=lambda q: score(q).mean(0).min())
        place = _choose(score(ratio), one_se)
        *_, (coef, bias) = _path(
            columns, codes, classes, rows_weight, STRENGTHS[: place + 1], ratio, steps
        )
        members[kind] = LogisticMember(float(STRENGTHS[place]), ratio, mean, scale, coef, bias)
    return members


def _choose(scores: np.ndarray, one_se: bool) -> int:
    mean = scores.mean(0)
    best = int(mean.argmin())
    if not one_se or len(scores) < 2:
        return best
    reach = mean[best] + scores[:, best].std(ddof=1) / np.sqrt(len(scores))
    return int(np.flatnonzero(mean <= reach)[0])


def _standardise(
    features: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns with mean 0 and deviation 1; tied ones share the scale over the classes."""
    mean = np.average(features, axis=0, weights=weight)
    centred = features - mean
    variance = np.average(np.square(centred), axis=0, weights=weight)
    if features.ndim == 3:
        variance = variance.mean(0)
    size = np.abs(mean) if features.ndim == 2 else np.abs(mean).max(0)
    scale = np.sqrt(variance)
    scale = np.where(scale > 10 * np.finfo(np.float64).eps * size, scale, 1.0)
    return centred / scale, mean, scale


def _scores(columns: np.ndarray, coef: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(n, 1) log-odds or (n, C) logits; summed row by row, so that rows stay independent."""
    if coef.ndim == 1:
        return np.asarray((columns * coef).sum(2) + bias)
    return np.stack([(columns * row).sum(1) for row in coef], axis=1) + bias


def _path(
    columns: np.ndarray,
    codes: np.ndarray,
    classes: int,
    weight: np.ndarray,
    strengths: np.ndarray,
    ratio: float,
    steps: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Coefficients and intercepts for each C, rising."""
    tied = columns.ndim == 3
    outputs = classes if tied or classes > 2 else 1
    size = columns.shape[-1]
    coef = np.zeros(size) if tied else np.zeros((outputs, size))
    bias = np.zeros(outputs)
    fit = _Fit(columns, codes, weight, ratio)
    found = []
    for strength in strengths:
        coef, bias = fit.minimise(coef, bias, 1 / float(strength), steps)
        found.append((coef, bias))
    return found


@dataclass
class _Fit:
    """The penalised loss on some rows, and how to lower it."""

    columns: np.ndarray
    codes: np.ndarray
    weight: np.ndarray
    ratio: float

    def minimise(
        self, coef: np.ndarray, bias: np.ndarray, penalty: float, steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Newton steps from (coef, bias) until one gains nothing."""
        loss = self._loss(coef, bias, penalty)
        for _ in range(steps):
            before = loss
            coef, bias, loss = self._step(coef, bias, penalty, loss)
            if before - loss < ENOUGH * self.weight.sum():
                break
        return coef, bias

    def _loss(self, coef: np.ndarray, bias: np.ndarray, penalty: float) -> float:
        logs = log_softmax(_logits(_products(self.columns, coef) + bias), axis=1)
        fit = -self.weight @ logs[np.arange(len(self.codes)), self.codes]
        size = self.ratio * np.abs(coef).sum() + (1 - self.ratio) / 2 * np.square(coef).sum()
        return float(fit + penalty * size)

    def _step(
        self, coef: np.ndarray, bias: np.ndarray, penalty: float, loss: float
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """One Newton step, shortened until the loss falls."""
        logs = log_softmax(_logits(_products(self.columns, coef) + bias), axis=1)
        probability = np.exp(logs)
        surplus = probability.copy()
        surplus[np.arange(len(self.codes)), self.codes] -= 1
        surplus *= self.weight[:, None]
        if len(bias) == 1:
            probability, surplus = probability[:, 1:], surplus[:, 1:]
        derivatives = self._tied if coef.ndim == 1 else self._free
        gradient, hessian, cross, corner = derivatives(probability, surplus)
        own, here = surplus.sum(0), coef.ravel()
        # the intercepts that are best for given weights are put in, so that weights are left
        inverse = np.linalg.pinv(corner, hermitian=True)
        back = cross @ inverse
        reduced = hessian - back @ cross.T
        moment = reduced @ here - (gradient - back @ own)
        shift = self._quadratic(reduced, moment, penalty, here) - here
        turn = -inverse @ (own + cross.T @ shift)
        length = 1.0
        for _ in range(12):
            new = coef + length * shift.reshape(coef.shape), bias + length * turn
            reached = self._loss(*new, penalty)
            if reached <= loss:
                return *new, reached
            length /= 2
        return coef, bias, loss

    def _quadratic(
        self, reduced: np.ndarray, moment: np.ndarray, penalty: float, start: np.ndarray
    ) -> np.ndarray:
        if self.ratio == 0:
            return np.linalg.solve(reduced + penalty * np.eye(len(moment)), moment)
        # the length of a target of which these are the products: m^T G^-1 m, of a G that inverts
        sure = reduced + 1e-10 * np.trace(reduced) * np.eye(len(moment))
        try:
            energy = float(moment @ np.linalg.solve(sure, moment))
        except np.linalg.LinAlgError:  # every row is sure of its class: nothing curves the loss
            energy = float(moment @ np.linalg.pinv(sure, hermitian=True) @ moment)
        return quadratic_path(
            reduced, moment, max(energy, 0.0), np.array([penalty]), self.ratio,
            tol=INNER_TOL, rounds=INNER_ROUNDS, start=start,
        )[0]  # fmt: skip

    def _free(self, probability: np.ndarray, surplus: np.ndarray) -> tuple[np.ndarray, ...]:
        """Derivatives by the weights of each logit (one logit for two classes)."""
        outputs, size = probability.shape[1], self.columns.shape[1]
        hessian = np.empty((outputs, size, outputs, size))
        cross = np.empty((outputs, size, outputs))
        corner = np.empty((outputs, outputs))
        for k in range(outputs):
            for other in range(k, outputs):
                curve = self.weight * probability[:, k] * ((k == other) - probability[:, other])
                weighted = self.columns * curve[:, None]
                hessian[k, :, other] = hessian[other, :, k] = weighted.T @ self.columns
                cross[k, :, other] = cross[other, :, k] = weighted.sum(0)
                corner[k, other] = corner[other, k] = curve.sum()
        whole = outputs * size
        gradient = (surplus.T @ self.columns).ravel()
        return gradient, hessian.reshape(whole, whole), cross.reshape(whole, outputs), corner

    def _tied(self, probability: np.ndarray, surplus: np.ndarray) -> tuple[np.ndarray, ...]:
        """Derivatives by the shared weights and the intercepts of all logits."""
        size = self.columns.shape[2]
        share = probability * self.weight[:, None]
        apart = self.columns - np.einsum("nk,nkp->np", probability, self.columns)[:, None]
        flat = apart.reshape(-1, size)
        hessian = (flat * share.reshape(-1, 1)).T @ flat
        cross = np.einsum("nk,nkp->pk", share, apart)
        corner = np.diag(share.sum(0)) - share.T @ probability
        return self.columns.reshape(-1, size).T @ surplus.ravel(), hessian, cross, corner


def _products(columns: np.ndarray, coef: np.ndarray) -> np.ndarray:
    return np.asarray(columns @ (coef if coef.ndim == 1 else coef.T))


def _logits(scores: np.ndarray) -> np.ndarray:
    """One log-odds as two logits."""
    return np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores
