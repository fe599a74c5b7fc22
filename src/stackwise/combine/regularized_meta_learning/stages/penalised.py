"""Linear models along a path of penalties, each begun at the one before.

Least squares of centred columns A and a target y, both of n rows (weights are counts):

    Ridge       min_w ||y - A w||^2 + alpha ||w||_2^2
    Lasso       min_w (1/2n) ||y - A w||^2 + alpha ||w||_1
    ElasticNet  min_w (1/2n) ||y - A w||^2 + alpha (q ||w||_1 + (1 - q)/2 ||w||_2^2)

The rows are read once: the products A^T A, A^T y and y^T y hold all that these and their errors
need. `RidgeCV`, `LassoCV` and `ElasticNetCV` on the rows take 7 to 40 times as long
(benchmarks/regularized-meta-learning.py).

Logistic regression of classes, for all q:

    min_w  -sum_i log p(y_i | a_i, w) + (1/C) (q ||w||_1 + (1 - q)/2 ||w||_2^2)

where the log-odds of two classes are b + w . a; `tied` classes share one weight a model, logit_k =
b_k + w . a_k; and free ones have their own, logit_k = b_k + w_k . a. All three are minimised by
scipy's L-BFGS-B, with w as the difference of two positive parts where its absolute value counts.
scikit-learn's has no tied weights, and its saga takes 3 to 9 times as long over such a path and
ends 6e-4 above the least loss.
"""

import time
import warnings

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import enet_path

Fitted = tuple[np.ndarray, np.ndarray]
"""Coefficients (K, p), or (p,) where classes are tied, and (K,) intercepts; K = 1 for a number."""


class LeastSquares:
    """Penalised least squares on some rows.

    Args:
        columns: (n, p); target, weight: (n,).
        unit: the alphas of Lasso and ElasticNet are in this unit of the target.
        tol: largest duality gap of coordinate descent, in parts of the target's sum of squares.
        rounds: its passes over the columns at most.
    """

    def __init__(
        self, columns: np.ndarray, target: np.ndarray, weight: np.ndarray, *, unit: float,
        tol: float, rounds: int,
    ) -> None:  # fmt: skip
        self.unit, self.tol, self.rounds = unit, tol, rounds
        self.count = float(weight.sum())
        self.means = weight @ columns / self.count
        self.centre = float(weight @ target / self.count)
        centred = columns - self.means
        weighted, goal = centred * weight[:, None], (target - self.centre) / unit
        self.gram, self.moment = weighted.T @ centred, weighted.T @ goal
        self.energy = float(weight @ np.square(goal))

    def path(self, alphas: np.ndarray, ratio: float, seconds: float | None = None) -> list[Fitted]:
        """The fits for falling alphas; Ridge where the ratio q is 0. All of them: from the products
        they take milliseconds, whatever the rows.
        """
        if ratio == 0:
            values, vectors = np.linalg.eigh(self.gram)
            shrunk = (vectors.T @ self.moment) / (np.maximum(values, 0) + alphas[:, None])
            coefs = shrunk @ vectors.T
        elif not self.energy > 0:
            coefs = np.zeros((len(alphas), len(self.moment)))
        else:
            # scikit-learn's solver reads the products alone; of rows it takes one, as long as y
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                coefs = enet_path(
                    np.empty((1, len(self.moment)), order="F"), np.array([np.sqrt(self.energy)]),
                    l1_ratio=ratio, alphas=alphas * self.count, precompute=self.gram,
                    Xy=self.moment, check_input=False, tol=self.tol, max_iter=self.rounds,
                )[1].T  # fmt: skip
        coefs = coefs * self.unit
        return [(coef[None], np.array([self.centre - self.means @ coef])) for coef in coefs]

    def losses(self, fits: list[Fitted]) -> np.ndarray:
        """(G,) mean squared errors of fits, which may be of other rows, on these."""
        coefs, biases = (np.concatenate(parts) for parts in zip(*fits, strict=True))
        off = self.centre - coefs @ self.means - biases
        squares = np.einsum("gp,gp->g", coefs @ self.gram, coefs)
        squares += self.unit * (self.unit * self.energy - 2 * coefs @ self.moment)
        return np.asarray(np.maximum(squares, 0) / self.count + np.square(off))


class Logistic:
    """Penalised logistic regression on some rows.

    Args:
        columns: (n, p), or (n, C, p) for tied weights.
        target: (n,) int64 codes; weight: (n,).
        classes: C.
        rounds: steps of the solver at most.
    """

    def __init__(
        self, columns: np.ndarray, target: np.ndarray, weight: np.ndarray, *, classes: int,
        rounds: int,
    ) -> None:  # fmt: skip
        self.columns, self.target, self.rounds = columns, target, rounds
        self.share = weight / weight.sum()
        self.count = float(weight.sum())
        self.truth = np.eye(classes)[target]
        outputs = classes if classes > 2 or columns.ndim == 3 else 1
        self.shape = columns.shape[2:] if columns.ndim == 3 else (outputs, columns.shape[1])
        self.outputs = outputs

    def path(
        self, strengths: np.ndarray, ratio: float, seconds: float | None = None
    ) -> list[Fitted]:
        """The fits for rising C: all, or as many as the seconds allow, the first at least."""
        began = time.monotonic()
        size = int(np.prod(self.shape))
        bounds = [(0, None)] * (2 * size) if ratio else [(None, None)] * size + [(0, 0)] * size
        at = np.zeros(2 * size + self.outputs)
        found: list[Fitted] = []
        for strength in strengths:
            if found and seconds is not None and time.monotonic() - began > seconds:
                break
            at = minimize(
                self._objective, at, args=(1 / (float(strength) * self.count), ratio), jac=True,
                method="L-BFGS-B", bounds=bounds + [(None, None)] * self.outputs,
                options={"maxiter": self.rounds, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-6},
            ).x  # fmt: skip
            up, down, bias = np.split(at, [size, 2 * size])
            found.append(((up - down).reshape(self.shape), bias))
        return found

    def losses(self, fits: list[Fitted]) -> np.ndarray:
        """(G,) mean log losses of fits, which may be of other rows, on these."""
        return np.array([self.share @ self._surprise(*fit)[0] for fit in fits])

    def _objective(self, at: np.ndarray, penalty: float, ratio: float) -> tuple[float, np.ndarray]:
        """The penalised mean loss and its slope, at positive and negative parts and intercepts."""
        size = int(np.prod(self.shape))
        up, down, bias = np.split(at, [size, 2 * size])
        coef = up - down
        surprise, logs = self._surprise(coef.reshape(self.shape), bias)
        surplus = ((np.exp(logs) - self.truth) * self.share[:, None])[:, -self.outputs :]
        tied = self.columns.ndim == 3
        slope = np.tensordot(surplus, self.columns, 2) if tied else surplus.T @ self.columns
        slope = slope.ravel() + penalty * (1 - ratio) * coef
        size_of = ratio * (up + down).sum() + (1 - ratio) / 2 * coef @ coef
        each = penalty * ratio
        return float(self.share @ surprise + penalty * size_of), np.concatenate(
            [slope + each, each - slope, surplus.sum(0)]
        )

    def _surprise(self, coef: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) losses of the rows and (n, C) log-probabilities."""
        logits = self.columns @ coef.T + bias
        if self.outputs == 1:
            logits = np.hstack([np.zeros_like(logits), logits])
        logs = log_softmax(logits, axis=1)
        return -logs[np.arange(len(logs)), self.target], logs
