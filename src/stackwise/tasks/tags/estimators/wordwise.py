"""Estimators that say a class of each word, and from which probability on it is part of a name.

With p[c] the probability of class c and p[O] that of no name, the class said is

    argmax of  log p[O]  and  log p[c] + log(1 - t) - log t        t the threshold

so that c is said where p[c] / (p[c] + p[O]) is at least t. Names are rare, and classes may be
weighed in training: t is chosen on validation sentences, the one with the best F1 over whole names,
and is a half without such.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from stackwise.tasks.tags.estimators.coding import Coding, Scored, coding_of
from stackwise.tasks.tags.estimators.estimator import TagEstimator, TaggedRows, known_spans
from stackwise.tasks.tags.scoring import span_f1
from stackwise.tasks.tags.sentences import check_sentences

THRESHOLDS = (0.005, 0.01, 0.02, *(step / 20 for step in range(1, 20)), 0.98)


class WordwiseEstimator(TagEstimator):
    """An estimator that says a class of each word.

    Fitted, besides: `coding_`, what the classes mean, `classes_`, their names, and `threshold_`.
    """

    coding_: Coding
    threshold_: float

    @property
    def classes_(self) -> np.ndarray:
        """(C,) what each column of `predict_proba` says of a word; O is the first."""
        return np.array(self.coding_.classes, dtype=object)

    def predict_proba(self, X: Any) -> list[np.ndarray]:
        """(n, C) probabilities of the words of each sentence, in the order of `classes_`."""
        return [np.exp(one) for one in self._log_probabilities(self._asked(X))]

    def scored_spans(self, X: Any) -> list[list[Scored]]:
        """The names in each of n lists of words; the score is the mean probability of their classes
        over their words.
        """
        sentences = self._asked(X)
        values = self._values(sentences)
        codes = self._chosen(values, self.threshold_)
        probabilities = None
        found: list[list[Scored]] = []
        for row, said in enumerate(codes):
            spans = self.coding_.decode(said)
            if spans and probabilities is None:
                probabilities = self._normalised(values)
            scored = []
            for start, end, type_ in spans:
                assert probabilities is not None
                scored.append((start, end, type_, self._sure(probabilities[row], said, start, end)))
            found.append(scored)
        return found

    def tune(self, held: TaggedRows | None) -> None:
        """Choose the threshold; a half where there is nothing to choose by."""
        self.threshold_ = 0.5
        if held is not None and any(held.spans):
            values = self._values(held.sentences)
            self.threshold_, _ = self.best_threshold(values, known_spans(held.spans, self.types_))

    def best_threshold(self, values: Any, truth: Sequence[Any]) -> tuple[float, float]:
        """The threshold with the best F1 over whole names, of equal ones the nearest to a half, and
        that F1.

        Args:
            values: of `_values`.
        """
        scored = []
        for threshold in THRESHOLDS:
            said = [self.coding_.decode(codes) for codes in self._chosen(values, threshold)]
            scored.append((span_f1(truth, said), -abs(threshold - 0.5), threshold))
        best = max(scored)
        return best[2], best[0]

    def _asked(self, X: Any) -> list[list[str]]:
        check_is_fitted(self, self.fitted)
        return check_sentences(X)

    def _values(self, sentences: list[list[str]]) -> Any:
        """What is known of the words of each sentence before a threshold: (n, C) log
        probabilities, or what `_chosen` and `_normalised` understand.
        """
        raise NotImplementedError

    def _log_probabilities(self, sentences: list[list[str]]) -> list[np.ndarray]:
        return self._normalised(self._values(sentences), log=True)

    def _normalised(self, values: Any, *, log: bool = False) -> list[np.ndarray]:
        """(n, C) probabilities of each sentence, or their logarithms."""
        return list(values) if log else [np.exp(one) for one in values]

    def _chosen(self, values: Any, threshold: float) -> list[np.ndarray]:
        """(n,) the class that is said of each word of each sentence."""
        lengths = [len(one) for one in values]
        if not sum(lengths):
            return [np.zeros(0, dtype=np.int64) for _ in lengths]
        whole = np.concatenate([one for one in values if len(one)])
        codes = chosen_classes(whole, threshold)
        return np.split(codes, list(accumulate(lengths))[:-1])

    def _sure(self, probabilities: np.ndarray, codes: np.ndarray, start: int, end: int) -> float:
        """How sure a name is."""
        places = np.arange(start, end)
        return float(probabilities[places, codes[places]].mean())

    def _write(self, folder: Path) -> dict[str, Any]:
        kept = {"coding": self.coding_.as_json(), "threshold": self.threshold_}
        return super()._write(folder) | kept

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.coding_ = coding_of(record["coding"])
        self.threshold_ = float(record["threshold"])


def offset_of(threshold: float) -> float:
    """What is added to the logarithm of the probability of every class but O."""
    return float(np.log1p(-threshold) - np.log(threshold))


def chosen_classes(log_probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """(n,) int64 the class that is said; ties are no name.

    Args:
        log_probabilities: (n, C).
    """
    best = log_probabilities[:, 1:].argmax(1)
    top = log_probabilities[np.arange(len(best)), 1 + best]
    named = top + offset_of(threshold) > log_probabilities[:, 0]
    return np.where(named, 1 + best, 0)
