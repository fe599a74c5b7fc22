"""The fast path: linear models from sums of products, so that rows are read once a fold.

For rows [A 1 y] the sums

    n = sum_i w_i,   sum w a,   sum w y,   sum w a a^T,   sum w a y,   sum w y^2

add up over folds, and hold all that a squared loss needs: the fit on a training part, for every
penalty, and the error on the rows that were held out. A fit then costs p^3 or p^2 a round, not n p.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import enet_path


@dataclass(frozen=True)
class Sums:
    """Sums of products over some rows.

    Attributes:
        count: sum of the weights.
        a, y: (p,) sums of the columns, and the sum of the target.
        aa, ay, yy: (p, p), (p,) and the sum of the target's squares.
    """

    count: float
    a: np.ndarray
    y: float
    aa: np.ndarray
    ay: np.ndarray
    yy: float

    @classmethod
    def of(cls, columns: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> "Sums":
        """Sum over the rows of (n, p) columns and (n,) targets."""
        if weight is None:
            return cls(
                float(len(target)), columns.sum(0), float(target.sum()),
                columns.T @ columns, columns.T @ target, float(target @ target),
            )  # fmt: skip
        weighted = columns * weight[:, None]
        return cls(
            float(weight.sum()), weighted.sum(0), float(weight @ target),
            weighted.T @ columns, weighted.T @ target, float((weight * target) @ target),
        )  # fmt: skip

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.count + other.count, self.a + other.a, self.y + other.y,
            self.aa + other.aa, self.ay + other.ay, self.yy + other.yy,
        )  # fmt: skip

    def centred(self) -> tuple[np.ndarray, np.ndarray, float]:
        """(p, p), (p,) and a number: the products of columns and target around their means."""
        aa = self.aa - np.outer(self.a, self.a) / self.count
        return aa, self.ay - self.a * (self.y / self.count), self.yy - self.y**2 / self.count

    def intercepts(self, coefs: np.ndarray) -> np.ndarray:
        """(G,) intercepts that go with (G, p) coefficients."""
        return np.asarray((self.y - coefs @ self.a) / self.count)

    def errors(self, coefs: np.ndarray, intercepts: np.ndarray) -> np.ndarray:
        """(G,) mean squared errors, on these rows, of (G, p) coefficients."""
        square = np.einsum("gp,gp->g", coefs @ self.aa, coefs)
        total = (
            self.yy - 2 * coefs @ self.ay - 2 * intercepts * self.y
            + square + 2 * intercepts * (coefs @ self.a) + intercepts**2 * self.count
        )  # fmt: skip
        return np.asarray(np.maximum(total, 0.0) / self.count)


def ridge_path(sums: Sums, alphas: np.ndarray) -> np.ndarray:
    """Minimise ||y - A w||^2 + alpha ||w||^2 for every alpha, by one eigendecomposition.

    Returns:
        (G, p) coefficients.
    """
    aa, ay, _ = sums.centred()
    values, vectors = np.linalg.eigh(aa)
    shrunk = (vectors.T @ ay) / (np.maximum(values, 0.0) + np.asarray(alphas)[:, None])
    return np.asarray(shrunk @ vectors.T)


def sparse_path(
    sums: Sums, alphas: np.ndarray, ratio: float, *, tol: float, rounds: int
) -> np.ndarray:
    """Minimise (1/2n) ||y - A w||^2 + alpha (q ||w||_1 + (1 - q)/2 ||w||^2) for every alpha.

    By coordinate descent on the Gram matrix, from the largest alpha to the smallest, each from the
    solution before it.

    Args:
        alphas: (G,) falling.
        ratio: q.
        tol: largest duality gap, in parts of the target's centred sum of squares.
        rounds: passes over the columns at most.

    Returns:
        (G, p) coefficients.
    """
    aa, ay, yy = sums.centred()
    return quadratic_path(
        aa, ay, max(yy, 0.0), np.asarray(alphas) * sums.count, ratio, tol=tol, rounds=rounds
    )


def quadratic_path(
    gram: np.ndarray,
    moment: np.ndarray,
    energy: float,
    penalties: np.ndarray,
    ratio: float,
    *,
    tol: float,
    rounds: int,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Minimise 1/2 w^T G w - m^T w + lambda (q ||w||_1 + (1 - q)/2 ||w||^2) for every lambda.

    Args:
        gram: (p, p) positive semidefinite G.
        moment: (p,) m, in the range of G.
        energy: y^T y of a target whose products with the columns these are.
        penalties: (G,) lambda, falling.
        start: (p,) where the first one begins.

    Returns:
        (G, p) solutions.
    """
    if not energy > 0:
        return np.zeros((len(penalties), len(moment)))
    # scikit-learn's solver reads the products alone; of rows it takes one, whose length counts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, found, _ = enet_path(
            np.empty((1, len(moment)), order="F"), np.array([np.sqrt(energy)]), l1_ratio=ratio,
            alphas=penalties, precompute=np.ascontiguousarray(gram),
            Xy=np.ascontiguousarray(moment), coef_init=start, check_input=False, tol=tol,
            max_iter=rounds,
        )  # fmt: skip
    return np.ascontiguousarray(found.T)
