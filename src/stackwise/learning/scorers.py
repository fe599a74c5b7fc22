"""Any scorer of scikit-learn as the deciding metric, by the name that scikit-learn gives it.

    --metric f1_weighted        --metric roc_auc_ovo        --metric neg_mean_poisson_deviance

A scorer is a function with a sign and with what it reads: classes, or probabilities. Its sign says
whether less or more is better, so that `neg_mean_poisson_deviance` is recorded as
`mean_poisson_deviance`, of which less is better.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import metrics

from stackwise.errors import DataError
from stackwise.learning.metric import Metric, Problem

NOT_SCORES = "sklearn.metrics.cluster"
"""Scorers of how clusters agree have no place here."""


def scorer_names(by_class: bool) -> list[str]:
    """The scorers that judge classes, or numbers."""
    return [name for name in metrics.get_scorer_names() if _fits(name, by_class)]


def _fits(name: str, by_class: bool) -> bool:
    module = _function(metrics.get_scorer(name)).__module__
    if module.startswith(NOT_SCORES):
        return False
    return (module != "sklearn.metrics._regression") == by_class


def _function(scorer: Any) -> Callable[..., Any]:
    """The function of a scorer: (truth, answer, ...) -> float."""
    function: Callable[..., Any] = inspect.unwrap(scorer._score_func)
    return function


def scorer_metric(name: str, problem: Problem) -> Metric:
    """A scorer of scikit-learn as a metric of this problem.

    Raises:
        DataError: it does not serve the problem (two classes alone, several labels a row).
    """
    made = _metric(name)
    _try(made, problem)
    return made


def _metric(name: str) -> Metric:
    """Of two classes the second, in their order, is the positive one."""
    scorer: Any = metrics.get_scorer(name)
    less = scorer._sign < 0
    response = scorer._response_method
    wanted = response if isinstance(response, (tuple, list)) else (response,)
    probabilities = "predict_proba" in wanted
    takes = inspect.signature(_function(scorer)).parameters

    def scored(truth: np.ndarray, answer: np.ndarray) -> float:
        more = dict(scorer._kwargs)
        if probabilities:
            if "labels" in takes:
                more["labels"] = np.arange(answer.shape[1])
            if answer.shape[1] == 2 and {"y_score", "y_proba"} & set(takes):
                answer = answer[:, 1]
        elif "pos_label" in takes and more.get("average", "binary") == "binary":
            more["pos_label"] = np.unique(np.concatenate([truth, answer]))[-1]
        try:
            return float(scorer._score_func(truth, answer, **more))
        except ValueError as error:
            first = str(error).splitlines()[0]
            raise DataError(f"there is no {name} of these rows: {first}") from error

    shown = name.removeprefix("neg_") if less else name
    return Metric(shown, "min" if less else "max", probabilities, scored)


def _try(metric: Metric, problem: Problem) -> None:
    """Score a few made rows, so that what does not serve a problem is refused before any work."""
    classes = 3 if problem == "multiclass" else 2
    truth: np.ndarray = np.arange(4 * classes) % classes
    answer: np.ndarray = truth[::-1].copy()
    if problem == "regression":
        truth, answer = truth + 1.5, answer + 1.25
    elif metric.needs_probability:
        answer = np.full((len(truth), classes), 1 / classes)
    assert metric.function is not None
    metric.function(truth, answer)
