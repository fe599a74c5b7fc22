"""Out-of-fold predictions: column j never saw the target of row i when it predicted row i.

Every base model is fitted on the same folds, and predicts in each the rows that were held out.
What a classifier says (probabilities, decision values or labels) is read as probabilities.
"""

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import has_fit_parameter

from stackwise.combine.regularized_meta_learning.folds import Folds
from stackwise.combine.regularized_meta_learning.log_odds import from_decisions, from_labels
from stackwise.errors import DataError, KnobError
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
        if wanted != "auto":
            if not hasattr(model, wanted):
                raise KnobError(f"the estimator {name!r} has no {wanted}; use stack_method='auto'")
            return cls(wanted)
        return cls(next(method for method in METHODS if hasattr(model, method)))

    def ask(self, model: Any, X: Any) -> np.ndarray:
        """What the model says, as it says it."""
        return np.asarray(getattr(model, self.method)(X))

    def read(self, said: np.ndarray, model_classes: np.ndarray | None, classes: int) -> np.ndarray:
        """(n,) numbers, or (n, C) probabilities of the encoded classes."""
        if not classes:
            return np.asarray(said, dtype=np.float64).reshape(len(said))
        if self.method == "predict_proba":
            return np.asarray(said, dtype=np.float64)
        if self.method == "decision_function":
            return from_decisions(said, self.scale)
        assert model_classes is not None
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
    if classes:
        for place, (train, _) in enumerate(folds):
            missing = np.setdiff1d(np.arange(classes), y[train])
            if len(missing):
                rare = labels[missing[0]].item() if labels is not None else int(missing[0])
                raise DataError(
                    f"the class {rare!r} has no row in the training part of fold {place + 1}; "
                    "leave rare classes out, or use fewer folds"
                )
    tasks = [(name, train, held) for name in models for train, held in folds]
    fits = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_fit_and_ask)(
            name, clone(models[name]), readers[name], X, y, train, held, weight, keep_models
        )
        for name, train, held in tasks
    )
    done = list(_in_time(_told(fits, len(tasks)), len(folds), again=not keep_models))
    models = {name: models[name] for name in list(models)[: len(done) // len(folds)]}
    found = np.full((len(y), len(models), *((classes,) if classes else ())), np.nan)
    kept: dict[str, list[Any]] = {name: [] for name in models}
    settled = {name: readers[name] for name in models}
    for place, name in enumerate(models):
        mine = [(held, *answer) for (who, _, held), answer in zip(tasks, done) if who == name]
        settled[name] = settle(name, readers[name], [said for _, said, _ in mine])
        for held, said, model in mine:
            found[held, place] = settled[name].read(said, np.arange(classes), classes)
            kept[name].append(model)
    return found, settled, kept if keep_models else {}


def _in_time(fits: Iterable[Any], folds: int, *, again: bool) -> Iterator[Any]:
    """Pass the fits on until the session's time is over, model by model, two models at least.

    Args:
        again: the models are fitted once more, on all rows, for which time is left.
    """
    own = current_session()
    began = time.perf_counter()
    for count, fit in enumerate(fits, 1):
        yield fit
        left = own.seconds_left()
        spare = (time.perf_counter() - began) / folds if again else 0.0
        if left is not None and left <= spare and count % folds == 0 and count >= 2 * folds:
            return


def _told(fits: Iterable[Any], total: int) -> Iterator[Any]:
    """Pass the fits on, and tell the session how many are done."""
    started = time.perf_counter()
    tell = current_session().on_event
    for count, fit in enumerate(fits, 1):
        if tell is not None:
            gone = time.perf_counter() - started
            tell(
                {
                    "phase": "base models", "epoch": count, "max_epochs": total, "metrics": {},
                    "seconds": gone, "seconds_left": gone / count * (total - count),
                }
            )  # fmt: skip
        yield fit


def settle(name: str, reader: Reader, said: list[np.ndarray]) -> Reader:
    """The reader with the scale of these decision values; labels alone get a warning."""
    if reader.method == "predict_proba" or not said:
        return reader
    if reader.method == "decision_function":
        spread = float(np.concatenate([part.ravel() for part in said]).std())
        return Reader(reader.method, spread if spread > 0 else 1.0)
    return reader


def warn_of_labels(readers: Mapping[str, Reader], by_class: bool) -> None:
    """Say which classifiers give labels alone."""
    hard = [name for name, reader in readers.items() if reader.method == "predict"]
    if by_class and hard:
        warnings.warn(
            f"{', '.join(hard)} give labels alone, read as probabilities of 0.01 and 0.99",
            UserWarning, stacklevel=3,
        )  # fmt: skip


def _fit_and_ask(
    name: str,
    model: Any,
    reader: Reader,
    X: Any,
    y: np.ndarray,
    train: np.ndarray,
    held: np.ndarray,
    weight: np.ndarray | None,
    keep_model: bool,
) -> tuple[np.ndarray, Any]:
    part = None if weight is None else weight[train]
    fit_one(name, model, _safe_indexing(X, train), y[train], part)
    return reader.ask(model, _safe_indexing(X, held)), model if keep_model else None
