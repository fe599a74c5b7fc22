"""Words and vectors together: BM25 and a frozen encoder's cosine, each brought to 0 to 1, summed.

    score(q, d) = n(bm25(q, d)) + n(cosine(q, d)),     n(x) = (x - min) / (max - min)

minimum and maximum are those of all documents for this query.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np

from stackwise.catalog import Knob, ModelRef, baseline
from stackwise.tasks.retrieval.baselines.bm25 import BM25Retriever
from stackwise.tasks.retrieval.baselines.dense import DenseRetriever
from stackwise.tasks.retrieval.retriever import Ranking, Retriever, best_of


@baseline(
    "bm25-dense",
    title="BM25 and a frozen encoder's vectors, summed",
    requires={"bm25s": "retrieval", "transformers": "llm", "faiss": "retrieval"},
    presets={"quick": {}},
)
class WordAndVectorRetriever(Retriever):
    """Rank documents by the sum of BM25 and of a frozen encoder's cosine, both from 0 to 1.

    Fitted, besides `documents_`: `words_` and `dense_`, the two.
    """

    def __init__(
        self,
        *,
        model: Annotated[
            ModelRef | str, Knob("the encoder: a folder, packaged model, hub id, run")
        ] = "minilm",
        length: Annotated[int, Knob("most tokens of a text; what follows is not read", ge=8)] = 256,
    ) -> None:
        """Both."""

    words_: BM25Retriever
    dense_: DenseRetriever

    def fit(self, X: Any, y: Any = None) -> Self:
        """Index documents in both ways: of a loaded task, or of a list, a folder, a file."""
        self._begin()
        self.words_ = BM25Retriever().fit(X)
        self.dense_ = DenseRetriever(model=self.model, length=self.length).fit(X)
        self.documents_ = self.words_.documents_
        return self

    def _ranked(self, queries: list[str], k: int) -> list[Ranking]:
        cosines = self.dense_.encode(queries) @ self.dense_.vectors_.T
        found = []
        for query, own in zip(queries, cosines, strict=True):
            scores = from_0_to_1(self.words_.scores(query)) + from_0_to_1(own)
            places = best_of(scores, k)
            found.append(([self.documents_[place].id for place in places], scores[places]))
        return found

    def score_pairs(self, queries: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """(n,) the sum of both scores of each text for its query, each from 0 to 1 over these."""
        both = (one.score_pairs(queries, texts) for one in (self.words_, self.dense_))
        first, second = (from_0_to_1(scores) for scores in both)
        return np.asarray(first + second)

    def index_bytes(self) -> int:
        """Bytes of both."""
        return self.words_.index_bytes() + self.dense_.index_bytes()

    def _write(self, folder: Path) -> dict[str, Any]:
        self.words_.save(folder / "words")
        self.dense_.save(folder / "vectors")
        return {}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.words_ = BM25Retriever.load(folder / "words")
        self.dense_ = DenseRetriever.load(folder / "vectors")
        self.documents_ = self.words_.documents_


def from_0_to_1(scores: np.ndarray) -> np.ndarray:
    """Scores with the least at 0 and the largest at 1; all 0 where they are equal."""
    least, largest = scores.min(), scores.max()
    return (scores - least) / (largest - least) if largest > least else np.zeros_like(scores)
