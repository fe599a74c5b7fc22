"""Score predictions with scikit-learn, and say which score decides.

    regression   rmse (decides), mae, r2, and the median and the 90 % quantile of the error's size
    classes      log_loss (decides), accuracy, balanced_accuracy, f1, roc_auc, calibration_error,
                 and for two classes brier and average_precision, which tells of a rare class

Further ones are there by name, every scorer of scikit-learn among them, and any function of
(target, prediction) as `Metric`.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from stackwise.errors import DataError, nearest
from stackwise.learning.metric import Metric, Problem

__all__ = ["Metric", "Problem", "metric_for", "score"]


def _sklearn(name: str, **options: Any) -> Callable[[np.ndarray, np.ndarray], float]:
    def scored(target: np.ndarray, prediction: np.ndarray) -> float:
        from sklearn import metrics

        with warnings.catch_warnings():  # a class that a part lacks is part of its score
            warnings.simplefilter("ignore", UserWarning)
            return float(getattr(metrics, name)(target, prediction, **options))

    return scored


def _log_loss(target: np.ndarray, probability: np.ndarray) -> float:
    """Mean of -log of the probability of the true class, which is at least 1e-15."""
    total = probability.sum(axis=1, dtype=np.float64, keepdims=True)
    share = np.clip(probability / np.where(total > 0, total, 1), 1e-15, 1)
    return _sklearn("log_loss", labels=np.arange(share.shape[1]))(target, share)


def _brier(target: np.ndarray, probability: np.ndarray) -> float:
    """Mean squared distance of the probabilities from the truth; halved for two classes."""
    known = np.clip(probability.astype(np.float64), 0, 1)
    return _sklearn("brier_score_loss", labels=np.arange(known.shape[1]))(target, known)


def _roc_auc(target: np.ndarray, probability: np.ndarray) -> float:
    """Area under the curve; for more classes the mean of each against the rest that occurs."""
    from sklearn.metrics import roc_auc_score

    if probability.shape[1] == 2:
        curves = [(target == 1, probability[:, 1])]
    else:
        curves = [(target == i, probability[:, i]) for i in range(probability.shape[1])]
    known = [(truth, score) for truth, score in curves if 0 < truth.sum() < len(truth)]
    if not known:
        return math.nan
    return float(np.mean([roc_auc_score(truth, score) for truth, score in known]))


def _average_precision(target: np.ndarray, probability: np.ndarray) -> float:
    from sklearn.metrics import average_precision_score

    if probability.shape[1] == 2:
        return float(average_precision_score(target == 1, probability[:, 1]))
    occurring = [i for i in range(probability.shape[1]) if (target == i).any()]
    return float(
        np.mean([average_precision_score(target == i, probability[:, i]) for i in occurring])
    )


def _calibration_error(target: np.ndarray, probability: np.ndarray) -> float:
    """How far confidence is from accuracy: the mean gap over ten bins of equally many rows."""
    confidence = probability.max(axis=1).astype(np.float64)
    right = (probability.argmax(axis=1) == target).astype(np.float64)
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(10, len(order)))
    gaps = [abs(confidence[rows].mean() - right[rows].mean()) * len(rows) for rows in bins]
    return float(sum(gaps) / len(order))


def _p90_absolute_error(target: np.ndarray, prediction: np.ndarray) -> float:
    """Nine of ten predictions are off by at most this."""
    return float(np.quantile(np.abs(target - prediction), 0.9))


def _r2(target: np.ndarray, prediction: np.ndarray) -> float:
    return math.nan if len(target) < 2 else _sklearn("r2_score")(target, prediction)


_REGRESSION = {
    metric.name: metric
    for metric in (
        Metric("rmse", "min", function=_sklearn("root_mean_squared_error")),
        Metric("mae", "min", function=_sklearn("mean_absolute_error")),
        Metric("r2", "max", function=_r2),
        Metric("mse", "min", function=_sklearn("mean_squared_error")),
        Metric("median_absolute_error", "min", function=_sklearn("median_absolute_error")),
        Metric("p90_absolute_error", "min", function=_p90_absolute_error),
        Metric("mape", "min", function=_sklearn("mean_absolute_percentage_error")),
        Metric("max_error", "min", function=_sklearn("max_error")),
    )
}
_CLASSES = {
    metric.name: metric
    for metric in (
        Metric("log_loss", "min", True, _log_loss),
        Metric("accuracy", "max", function=_sklearn("accuracy_score")),
        Metric("balanced_accuracy", "max", function=_sklearn("balanced_accuracy_score")),
        Metric("f1", "max", function=_sklearn("f1_score", average="macro", zero_division=0)),
        Metric("roc_auc", "max", True, _roc_auc),
        Metric("brier", "min", True, _brier),
        Metric("calibration_error", "min", True, _calibration_error),
        Metric("mcc", "max", function=_sklearn("matthews_corrcoef")),
        Metric("average_precision", "max", True, _average_precision),
        Metric("precision", "max", function=_sklearn("precision_score", average="macro",
                                                     zero_division=0)),
        Metric("recall", "max", function=_sklearn("recall_score", average="macro",
                                                  zero_division=0)),
    )
}  # fmt: skip
_SAME = {"auc": "roc_auc", "logloss": "log_loss", "cross_entropy": "log_loss", "acc": "accuracy",
         "root_mean_squared_error": "rmse", "mean_absolute_error": "mae",
         "mean_squared_error": "mse", "f1_macro": "f1"}  # fmt: skip
_SHOWN = {
    "regression": ("rmse", "mae", "r2", "median_absolute_error", "p90_absolute_error"),
    "binary": ("log_loss", "accuracy", "balanced_accuracy", "f1", "roc_auc", "brier",
               "average_precision", "calibration_error"),
    "multiclass": ("log_loss", "accuracy", "balanced_accuracy", "f1", "roc_auc",
                   "calibration_error"),
}  # fmt: skip


def metric_for(problem: str, metric: "str | Metric | None" = None) -> Metric:
    """The score that decides: the given one, or the first of the problem.

    Raises:
        DataError: there is no such score for this problem, or a bare function was given, of which
            nobody knows whether more is better.
    """
    if isinstance(metric, Metric):
        if metric.function is None:
            raise DataError(f"the metric {metric.name!r} has no function")
        return metric
    if metric is not None and not isinstance(metric, str):
        raise DataError(
            "give an own metric as Metric(name, 'min' or 'max', needs_probability, function)"
        )
    known = _REGRESSION if problem == "regression" else _CLASSES
    name = _SHOWN[problem][0] if metric is None else metric.lower().replace("-", "_")
    name = _SAME.get(name, name)
    if name in known:
        return known[name]
    from stackwise.learning.scorers import scorer_metric, scorer_names

    further = scorer_names(problem != "regression")
    if name not in further:
        names = [*known, *further]
        raise DataError(f"there is no metric {metric!r} for {problem}.{nearest(name, names)}")
    of = "binary" if problem == "classification" else problem
    return scorer_metric(name, cast(Problem, of))


def score(
    problem: str,
    y: np.ndarray,
    prediction: np.ndarray,
    probability: np.ndarray | None = None,
    metric: "str | Metric | None" = None,
    classes: Sequence[Any] | None = None,
) -> dict[str, float]:
    """Every score of the problem, the deciding one first.

    Args:
        y: (n,) the truth.
        prediction: (n,) values or classes.
        probability: (n, classes), for classes.
        classes: what the columns of `probability` are; the sorted classes of `y` by default. A
            true class that is not among them has probability 0.

    Returns:
        Scores by name. One that is not defined here (r2 of one row) is NaN.

    Raises:
        DataError: lengths differ, or a prediction is not finite.
    """
    y, prediction = np.asarray(y), np.asarray(prediction)
    if len(y) != len(prediction) or not len(y):
        raise DataError(f"there are {len(prediction)} predictions for {len(y)} rows")
    numbers = prediction if problem == "regression" else probability
    if numbers is not None and not np.isfinite(np.asarray(numbers, dtype=np.float64)).all():
        raise DataError("a prediction is not a finite number, so that it has no score")
    chosen = metric_for(problem, metric)
    known = _REGRESSION if problem == "regression" else _CLASSES
    wanted = {chosen.name: chosen} | {name: known[name] for name in _SHOWN[problem]}
    scores: dict[str, float] = {}
    if probability is not None:
        numbered, probability = _numbered(y, np.asarray(probability), classes)
    for name, of in wanted.items():
        if of.needs_probability:
            if probability is not None and of.function is not None:
                scores[name] = float(of.function(numbered, probability))
        elif of.function is not None:
            scores[name] = float(of.function(y, prediction))
    return scores


def _numbered(
    y: np.ndarray, probability: np.ndarray, classes: Sequence[Any] | None
) -> tuple[np.ndarray, np.ndarray]:
    """The truth as column numbers, with a column of zeros for each class that has none."""
    names = list(np.unique(y) if classes is None else np.asarray(classes))
    if len(names) != probability.shape[1]:
        raise DataError(
            f"there are {probability.shape[1]} columns of probabilities for {len(names)} classes"
        )
    place = {name: i for i, name in enumerate(names)}
    for name in np.unique(y):
        place.setdefault(name, len(place))
    more = len(place) - len(names)
    if more:
        probability = np.hstack([probability, np.zeros((len(y), more))])
    return np.array([place[name] for name in y], dtype=np.int64), probability
