"""Out-of-fold predictions: no model ever saw the target of row i when it predicted row i.

Every base model is fitted on the same folds, and predicts in each the rows that were held out.
What a classifier says (probabilities, decision values or labels) is read as probabilities.
"""

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import has_fit_parameter

from stackwise.combine.regularized_meta_learning.stages.log_odds import from_decisions, from_labels
from stackwise.combine.regularized_meta_learning.time_shares import TimeShares
from stackwise.errors import DataError, KnobError
from stackwise.tasks.labelled.folds import Folds
from stackwise.training.session import current_session

METHODS = ("predict_proba", "decision_function", "predict")


@dataclass(frozen=True)
class Reader:
    """How a base model's answers are read.

    Attributes:
        method: predict, predict_proba or decision_function.
        scale: decision values of this size are one unit of log-odds.
    """

    method: str
    scale: float = 1.0

    @classmethod
    def of(cls, name: str, model: Any, wanted: str, by_class: bool) -> "Reader":
        """The wanted method, or of a classifier the first of `METHODS` that it has."""
        if not by_class:
            return cls("predict")
        if wanted != "auto" and not hasattr(model, wanted):
            raise KnobError(f"the estimator {name!r} has no {wanted}; use stack_method='auto'")
        return cls(next(m for m in METHODS if hasattr(model, m)) if wanted == "auto" else wanted)

    def ask(self, model: Any, X: Any) -> np.ndarray:
        """What the model says, as it says it."""
        return np.asarray(getattr(model, self.method)(X))

    def settled(self, said: list[np.ndarray]) -> "Reader":
        """The reader with the scale of these decision values."""
        if self.method != "decision_function":
            return self
        spread = float(np.concatenate([part.ravel() for part in said]).std())
        return replace(self, scale=spread if spread > 0 else 1.0)

    def read(self, said: np.ndarray, model_classes: np.ndarray, classes: int) -> np.ndarray:
        """(n,) numbers, or (n, C) probabilities of the encoded classes."""
        if not classes:
            return np.asarray(said, dtype=np.float64).reshape(len(said))
        if self.method == "predict_proba":
            return np.asarray(said, dtype=np.float64)
        if self.method == "decision_function":
            return from_decisions(said, self.scale)
        return from_labels(np.searchsorted(model_classes, said), classes)


def fit_one(name: str, model: Any, X: Any, y: np.ndarray, weight: np.ndarray | None) -> Any:
    """Fit `model` in place, with weights where they are given."""
    if weight is None:
        return model.fit(X, y)
    if not has_fit_parameter(model, "sample_weight"):
        raise DataError(f"the estimator {name!r} takes no sample_weight; leave it or the weights")
    return model.fit(X, y, sample_weight=weight)


def out_of_fold(
    models: Mapping[str, Any],
    readers: Mapping[str, Reader],
    X: Any,
    y: np.ndarray,
    folds: Folds,
    *,
    classes: int,
    weight: np.ndarray | None,
    n_jobs: int | None,
    keep_models: bool,
    labels: np.ndarray | None = None,
) -> tuple[np.ndarray, dict[str, Reader], dict[str, list[Any]]]:
    """Predict each row by models that did not learn from it.

    Args:
        classes: how many, or 0 for numbers.
        keep_models: return the models of the folds too.
        labels: (C,) what the classes are called, for the error.

    Returns:
        (n, M) numbers or (n, M, C) probabilities, NaN in rows that no fold holds out; the readers,
        with the scale of decision values; and the folds' models by name. Where the session's time
        limit ends in between, those are of the models that are done: of two at least.
    """
    for place, (train, _) in enumerate(folds if classes else ()):
        missing = np.setdiff1d(np.arange(classes), y[train])
        if len(missing):
            rare = labels[missing[0]].item() if labels is not None else int(missing[0])
            raise DataError(
                f"the class {rare!r} has no row in the training part of fold {place + 1}; "
                "leave rare classes out, or use fewer folds"
            )

    tasks = [(name, train, held) for name in models for train, held in folds]
    # as many parts for joining, and again for fitting on all rows, as there are models
    parts = len(tasks) + len(models) * (1 if keep_models else 2)
    shares = TimeShares(parts, current_session().seconds_left()) if n_jobs in (None, 1) else None
    fits = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_fit_and_ask)(
            name,
            clone(models[name]),
            readers[name],
            X,
            y,
            train,
            held,
            weight,
            keep_models,
            shares,
        )
        for name, train, held in tasks
    )
    done = list(_in_time(fits, len(models), len(folds), again=not keep_models))
    names = list(models)[: len(done) // len(folds)]
    found = np.full((len(y), len(names), *((classes,) if classes else ())), np.nan)
    settled, kept = {}, {}
    for place, name in enumerate(names):
        mine = done[place * len(folds) : (place + 1) * len(folds)]
        settled[name] = readers[name].settled([said for said, _ in mine])
        for (_, held), (said, _) in zip(folds, mine, strict=True):
            found[held, place] = settled[name].read(said, np.arange(classes), classes)
        kept[name] = [model for _, model in mine]
    return found, settled, kept if keep_models else {}


def _in_time(fits: Iterable[Any], models: int, folds: int, *, again: bool) -> Iterator[Any]:
    """Pass the fits on until the session's time is over, model by model, two models at least.

    Args:
        again: the models are fitted once more, on all rows, for which time is left.
    """
    own, total = current_session(), models * folds
    began = time.perf_counter()
    for count, fit in enumerate(fits, 1):
        gone = time.perf_counter() - began
        if own.on_event is not None:
            own.on_event(
                {
                    "phase": "base models", "epoch": count, "max_epochs": total, "metrics": {},
                    "seconds": gone, "seconds_left": gone / count * (total - count),
                }
            )  # fmt: skip
        yield fit
        left = own.seconds_left()
        spare = gone / folds if again else 0.0
        if left is not None and left <= spare and count % folds == 0 and count >= 2 * folds:
            return


def _fit_and_ask(
    name: str, model: Any, reader: Reader, X: Any, y: np.ndarray, train: np.ndarray,
    held: np.ndarray, weight: np.ndarray | None, keep_model: bool, shares: TimeShares | None,
) -> tuple[np.ndarray, Any]:  # fmt: skip
    part = None if weight is None else weight[train]
    with current_session().within(None if shares is None else shares.next()):
        fit_one(name, model, _safe_indexing(X, train), y[train], part)
    return reader.ask(model, _safe_indexing(X, held)), model if keep_model else None


def warn_of_labels(readers: Mapping[str, Reader], by_class: bool) -> None:
    """Say which classifiers give labels alone."""
    hard = [name for name, reader in readers.items() if reader.method == "predict"]
    if by_class and hard:
        warnings.warn(
            f"{', '.join(hard)} give labels alone, read as probabilities of 0.01 and 0.99",
            UserWarning, stacklevel=3,
        )  # fmt: skip
