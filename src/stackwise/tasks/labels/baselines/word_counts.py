"""Words counted, and logistic regression on them: what is there without the order of words.

    tf-idf[t, w] = (1 + log count[t, w]) * (1 + log((1 + n) / (1 + texts with w)))

over words and pairs of neighbours of the training texts, each text scaled to length 1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer

from stackwise.catalog import Knob, baseline
from stackwise.errors import DataError
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.targets import class_knobs
from stackwise.tasks.labels.estimators.estimator import TextEstimator
from stackwise.tasks.table.baselines.linear import LinearClasses, linear_knobs


@baseline(
    "word-counts",
    title="Words counted, and logistic regression",
    problem="classification",
    presets={"quick": {"folds": 2, "max_steps": 100}},
)
class WordCountsClassifier(LinearClasses, TextEstimator):
    """Logistic regression on counted words and pairs of words, its penalty cross-validated.

    Fitted: `words_`, and `rarity_` (of each, its second factor above).
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (linear_knobs, class_knobs)

    def __init__(
        self,
        *,
        neighbours: Annotated[
            int, Knob("words in a row that are counted as one, at most", ge=1, le=4, search=(1, 3))
        ] = 2,
        most_words: Annotated[
            int, Knob("words that are counted: the commonest", ge=1, log=True)
        ] = 50_000,
    ) -> None:
        """Words counted."""

    def _learn_features(self, train: LabelledRows, *, whole: bool, **told: Any) -> None:
        counter = self._counter()
        try:
            counter.fit(train.samples.values)
        except ValueError as error:
            raise DataError("the training texts hold no words that could be counted") from error
        self.words_ = [str(word) for word in counter.get_feature_names_out()]
        self.rarity_ = np.asarray(counter.idf_, dtype=np.float64)

    def _counter(self, words: Any = None) -> TfidfVectorizer:
        return TfidfVectorizer(
            token_pattern=r"(?u)\b\w+\b", ngram_range=(1, self.neighbours), vocabulary=words,
            max_features=self.most_words, sublinear_tf=True,
        )  # fmt: skip

    def _matrix(self, samples: Any) -> csr_array:
        """(n, words) in sparse rows."""
        counter = self._counter(self.words_)
        counter.idf_ = self.rarity_
        return csr_array(counter.transform(samples.values))

    def _write(self, folder: Path) -> dict[str, Any]:
        kept = {"words": self.words_, "rarity": self.rarity_.tolist()}
        return super()._write(folder) | kept

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.words_ = [str(word) for word in record["words"]]
        self.rarity_ = np.array(record["rarity"], dtype=np.float64)
