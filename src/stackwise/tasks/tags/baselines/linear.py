"""Logistic regression that says the BIO tag of each word; what it knows of a word, a subclass says.

Its penalty is the one with the best F1 over whole names on the validation sentences, at the best
threshold of each.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.files import read_tensors, write_tensors
from stackwise.learning.network import computing_with
from stackwise.tasks.tags.estimators.coding import Prefixed
from stackwise.tasks.tags.estimators.estimator import TaggedRows, known_spans
from stackwise.tasks.tags.estimators.wordwise import WordwiseEstimator
from stackwise.training.session import current_session

PENALTIES = (1.0, 10.0, 0.1)
"""Those that are tried; the first one where there is nothing to choose by."""


def linear_knobs(
    *,
    penalty: Annotated[
        float | None,
        Knob("strength of the squared penalty; none = chosen on validation sentences", gt=0,
             log=True, search=(1e-2, 1e2)),
    ] = None,
    max_steps: Annotated[int, Knob("steps of the solver at most", ge=1)] = 200,
    validation: Annotated[
        float, Knob("part of the sentences that penalty and threshold are chosen on", ge=0, lt=1)
    ] = 0.2,
    threads: Annotated[int | None, Knob("threads to compute with", ge=1)] = None,
    random_state: Annotated[int | None, Knob("seed of everything random", ge=0)] = 0,
) -> None:  # fmt: skip
    """The knobs of the linear taggers."""


class LinearTagger(WordwiseEstimator):
    """Logistic regression on what is known of each word.

    Fitted, besides: `weights_` (C, d), `biases_` (C,) and `penalty_`.
    """

    budget: ClassVar[str | None] = "max_steps"
    shared_knobs: ClassVar[tuple[Any, ...]] = (linear_knobs,)

    weights_: np.ndarray
    biases_: np.ndarray
    penalty_: float

    def _learn_features(self, train: TaggedRows) -> None:
        """Find out what training sentences hold."""

    def _matrix(self, sentences: list[list[str]]) -> Any:
        """(words of all sentences, d) what is known of each, as an array or in sparse rows."""
        raise DataError(f"{type(self).__name__} does not say what it knows of a word")

    def _learn(self, train: TaggedRows, held: TaggedRows | None) -> None:
        self.coding_ = Prefixed(self.types_, "BIO")
        self._learn_features(train)
        pairs = zip(train.sentences, train.spans, strict=True)
        y = np.concatenate([self.coding_.encode(spans, len(words)) for words, spans in pairs])
        with computing_with(self.threads):
            X = self._matrix(train.sentences)
            self._choose(X, y, held)
        self.tune(held)

    def _choose(self, X: Any, y: np.ndarray, held: TaggedRows | None) -> None:
        """Fit with each penalty, and keep the best."""
        by_validation = held is not None and any(held.spans)
        tried = [self.penalty] if self.penalty else list(PENALTIES if by_validation else (1.0,))
        best: tuple[float, Any] | None = None
        for penalty in tried:
            left = current_session().seconds_left()
            if best is not None and left is not None and left <= 0:
                self.notes_.append("the time limit ended the choice of a penalty early")
                break
            self._solve(X, y, penalty)
            found = 0.0
            if held is not None and len(tried) > 1:
                truth = known_spans(held.spans, self.types_)
                _, found = self.best_threshold(self._values(held.sentences), truth)
            if best is None or found > best[0]:
                best = (found, (self.weights_, self.biases_, penalty))
        assert best is not None
        self.weights_, self.biases_, self.penalty_ = best[1]

    def _solve(self, X: Any, y: np.ndarray, penalty: float) -> None:
        model = LogisticRegression(C=1 / penalty, max_iter=self.max_steps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, y)
        # a class that no word has is never said; of two classes scikit-learn keeps one row
        coefficients, intercepts = model.coef_, model.intercept_
        if len(model.classes_) == 2:
            coefficients = np.concatenate([-coefficients / 2, coefficients / 2])
            intercepts = np.concatenate([-intercepts / 2, intercepts / 2])
        self.weights_ = np.zeros((len(self.coding_.classes), X.shape[1]))
        self.biases_ = np.full(len(self.coding_.classes), -1e3)
        self.weights_[model.classes_], self.biases_[model.classes_] = coefficients, intercepts

    def _values(self, sentences: list[list[str]]) -> list[np.ndarray]:
        """(n, C) log probabilities of each sentence."""
        lengths = [len(words) for words in sentences]
        if not sum(lengths):
            return [np.zeros((0, len(self.coding_.classes))) for _ in lengths]
        logits = np.asarray(self._matrix(sentences) @ self.weights_.T) + self.biases_
        logits -= logits.max(1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(1, keepdims=True))
        return np.split(logits, np.cumsum(lengths)[:-1])

    def _write(self, folder: Path) -> dict[str, Any]:
        tensors = {
            "weights": torch.from_numpy(self.weights_), "biases": torch.from_numpy(self.biases_)
        }  # fmt: skip
        write_tensors(folder / "model.safetensors", tensors)
        return super()._write(folder) | {"penalty": self.penalty_}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        tensors = read_tensors(folder / "model.safetensors")
        self.weights_, self.biases_ = (tensors[n].numpy() for n in ("weights", "biases"))
        self.penalty_ = float(record["penalty"])
