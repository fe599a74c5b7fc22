"""Stage 3: Ridge, Lasso and ElasticNet on the meta-features, their penalty chosen inside.

Columns are standardised by the rows that a meta-model learns from (Algorithm 3). Inner folds choose
the penalty (and q): Ridge of a number by the mean of the folds' root mean squared errors, the
others by the mean of their losses. The models are those of penalised.py; an estimator of the user's
own is fitted on the same standardised meta-features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from stackwise.combine.regularized_meta_learning.stages.log_odds import to_probabilities
from stackwise.combine.regularized_meta_learning.stages.penalised import LeastSquares, Logistic
from stackwise.combine.regularized_meta_learning.time_shares import TimeShares
from stackwise.errors import KnobError, nearest
from stackwise.tasks.labelled.folds import Folds

KINDS = ("ridge", "lasso", "elasticnet")
RIDGE_ALPHAS = np.logspace(5, -3, 50)
SPARSE_ALPHAS = np.logspace(1, -5, 30)
"""In standard deviations of the target. All penalties begin with the strongest."""
STRENGTHS = np.logspace(-4, 2, 13)
"""C of logistic regression."""
RATIOS = (0.1, 0.5, 0.7, 0.9, 0.95, 0.99, 1.0)
CLASS_RATIOS = (0.1, 0.5, 0.9)

Solver = Callable[[np.ndarray, np.ndarray, np.ndarray], LeastSquares | Logistic]
"""(columns, target, weight) of some rows -> what fits and judges on them."""


@dataclass(frozen=True)
class Member:
    """A fitted meta-model: scores b_k + sum_j w_kj (A_j - mean_j) / scale_j.

    Attributes:
        penalty, ratio: the chosen alpha, or C for classes, and q (0 for Ridge, 1 for Lasso).
        mean: (p,), or tied (C, p), of the columns that it learned from; scale: (p,).
        coef: (1, p) for a number and for two classes, (p,) tied, (C, p) otherwise.
        bias: (1,) or (C,).
        by_class: scores are logits.
    """

    penalty: float
    ratio: float
    mean: np.ndarray
    scale: np.ndarray
    coef: np.ndarray
    bias: np.ndarray
    by_class: bool

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(n,) values or (n, C) probabilities; sums go row by row, so that rows stay independent.

        Args:
            features: (n, p), or tied (n, C, p), meta-features.
        """
        standard = np.ascontiguousarray((features - self.mean) / self.scale)
        if self.coef.ndim == 1:
            scores = (standard * self.coef).sum(2) + self.bias
        else:
            scores = np.stack([(standard * row).sum(1) for row in self.coef], axis=1) + self.bias
        return to_probabilities(scores) if self.by_class else np.asarray(scores[:, 0])

    def as_dict(self) -> dict[str, Any]:
        """The member as plain JSON."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], by_class: bool) -> "Member":
        """The inverse of `as_dict`; format 1 had a name for each penalty and one intercept."""
        names = {"alpha": "penalty", "strength": "penalty", "intercept": "bias"}
        known = {"by_class": by_class} | {names.get(k, k): v for k, v in record.items()}
        if "intercept" in record:
            known |= {"coef": [record["coef"]], "bias": [record["intercept"]]}
        arrays = {name: np.array(known[name]) for name in ("mean", "scale", "coef", "bias")}
        return cls(**known | arrays)


@dataclass(frozen=True)
class OwnMember:
    """A meta-model of the user's own: any estimator, fitted on the standardised meta-features."""

    estimator: Any
    mean: np.ndarray
    scale: np.ndarray
    by_class: bool

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(n,) values or (n, C) probabilities of (n, ...) meta-features."""
        standard = (_flat(features) - self.mean) / self.scale
        ask = self.estimator.predict_proba if self.by_class else self.estimator.predict
        return np.asarray(ask(standard), dtype=np.float64)


def check_meta(meta: Sequence[Any]) -> None:
    """Refuse a meta-model that is neither a name nor an estimator."""
    for item in meta:
        if isinstance(item, str) and item not in KINDS:
            raise KnobError(f"there is no meta-model {item!r}.{nearest(item, KINDS)}")
        if not isinstance(item, str) and not hasattr(item, "fit"):
            raise KnobError(f"a meta-model is a name or an estimator, not {item!r}")


def fit_members(
    features: np.ndarray,
    target: np.ndarray,
    inner: Folds,
    meta: Sequence[Any],
    solver: Solver,
    *,
    weight: np.ndarray | None = None,
    one_se: bool = False,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Choose the penalties on the inner folds, then fit on all rows.

    Args:
        features: (n, p) meta-features, or (n, C, p) for tied weights of classes.
        target: (n,) numbers, or int64 codes of classes.
        inner: folds of these rows.
        meta: names of `KINDS`, and estimators of the user's own.
        one_se: the strongest penalty within one standard error of the best, not the best.
        seconds: that this may take; where they do not suffice, weak penalties, whose fits come last
            and take longest, are left out.

    Returns:
        `Member`s by their names, and `OwnMember`s by those of their classes.
    """
    counts = np.ones(len(target)) if weight is None else weight
    columns, mean, scale = standardise(features, counts)

    def of(rows: np.ndarray) -> LeastSquares | Logistic:
        return solver(columns[rows], target[rows], counts[rows])

    parts = [(of(train), of(held)) for train, held in inner]
    whole = of(np.arange(len(target)))
    by_class = isinstance(whole, Logistic)
    losses: dict[float, np.ndarray] = {}
    mixed = CLASS_RATIOS if by_class else RATIOS
    own_ratios = {kind: {"ridge": (0.0,), "lasso": (1.0,)}.get(kind, mixed)
                  for kind in meta if isinstance(kind, str)}  # fmt: skip
    tried = {ratio for ratios in own_ratios.values() for ratio in ratios}
    shares = TimeShares(len(tried) * len(parts) + len(own_ratios), seconds)

    def judged(ratio: float) -> np.ndarray:
        """(folds, G) losses of all penalties."""
        if ratio not in losses:
            penalties = _penalties(by_class, ratio)
            paths = [t.path(penalties, ratio, shares.next()) for t, _ in parts]
            least = min(map(len, paths))
            losses[ratio] = np.array(
                [h.losses(path[:least]) for path, (_, h) in zip(paths, parts, strict=True)]
            )
            if ratio == 0 and not by_class:
                losses[ratio] = np.sqrt(losses[ratio])
        return losses[ratio]

    members: dict[str, Any] = {}
    for kind, ratios in own_ratios.items():
        ratio = min(ratios, key=lambda q: judged(q).mean(0).min())
        penalties = _penalties(by_class, ratio)[: _choose(judged(ratio), one_se) + 1]
        if ratio == 0 and not by_class:
            penalties = penalties[-1:]  # each of Ridge's fits stands alone
        fits = whole.path(penalties, ratio, shares.next())
        (coef, bias), penalty = fits[-1], float(penalties[len(fits) - 1])
        members[kind] = Member(penalty, ratio, mean, scale, coef, bias, by_class)
    for item in (item for item in meta if not isinstance(item, str)):
        word = type(item).__name__.lower()
        same = sum(other.split("-")[0] == word for other in members)
        name = f"{word}-{same + 1}" if same else word
        own, mean, scale = standardise(_flat(features), counts)
        given = {} if weight is None else {"sample_weight": weight}
        fitted = clone(item).fit(own, target, **given)
        members[name] = OwnMember(fitted, mean, scale, by_class)
    return members


def standardise(
    features: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of mean 0 and deviation 1, their means and deviations (1 where constant).

    Tied columns (n, C, p) share the deviation over the classes.
    """
    mean = np.average(features, axis=0, weights=weight)
    centred = features - mean
    variance = np.average(np.square(centred), axis=0, weights=weight)
    size = np.abs(mean)
    if features.ndim == 3:
        variance, size = variance.mean(0), size.max(0)
    scale = np.sqrt(variance)
    scale = np.where(scale > 10 * np.finfo(np.float64).eps * size, scale, 1.0)
    return centred / scale, mean, scale


def _penalties(by_class: bool, ratio: float) -> np.ndarray:
    if by_class:
        return STRENGTHS
    return RIDGE_ALPHAS if ratio == 0 else SPARSE_ALPHAS


def _choose(losses: np.ndarray, one_se: bool) -> int:
    """The place of the penalty to take, from (folds, G) losses, the strongest penalty first."""
    mean = losses.mean(0)
    best = int(mean.argmin())
    if not one_se or len(losses) < 2:
        return best
    reach = mean[best] + losses[:, best].std(ddof=1) / np.sqrt(len(losses))
    return int(np.flatnonzero(mean <= reach)[0])


def _flat(features: np.ndarray) -> np.ndarray:
    """(n, ...) meta-features as (n, p) columns."""
    return np.ascontiguousarray(features.reshape(len(features), -1))
