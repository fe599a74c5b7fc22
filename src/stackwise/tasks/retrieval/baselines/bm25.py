"""BM25: what is there without learning. A document scores by the words that it shares with a query,

    sum_w  idf(w) * count * (k1 + 1) / (count + k1 * (1 - b + b * length / mean length))

rare words more, repeated ones ever less, long documents less. Counted by bm25s.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch

from stackwise.catalog import Knob, baseline
from stackwise.errors import DataError
from stackwise.files import read_json, read_tensors, write_json, write_tensors
from stackwise.optional import needs
from stackwise.tasks.retrieval.porter import stem
from stackwise.tasks.retrieval.retriever import (
    Ranking,
    Retriever,
    best_of,
    documents_of,
    kept_documents,
    write_documents,
)

WORD = re.compile(r"[^\W_]+")


@baseline(
    "bm25",
    title="BM25 on stemmed words",
    requires={"bm25s": "retrieval"},
    presets={"quick": {}},
)
class BM25Retriever(Retriever):
    """Rank documents by the words that they share with a query, rare ones first.

    Fitted, besides `documents_`: `counts_`, the index of bm25s.
    """

    def __init__(
        self,
        *,
        k1: Annotated[float, Knob("how soon repeating a word stops to help", gt=0)] = 1.5,
        b: Annotated[float, Knob("how much long documents lose", ge=0, le=1)] = 0.75,
        stemmed: Annotated[bool, Knob("compare words by their Porter stems")] = True,
    ) -> None:
        """Words shared."""

    counts_: Any

    def fit(self, X: Any, y: Any = None) -> Self:
        """Count the words of documents: of a loaded task, or of a list, a folder, a file."""
        self._begin()
        documents = documents_of(X)
        needs("bm25s", "BM25")
        self._counted([one.whole for one in documents])
        self.documents_ = documents
        return self

    def _counted(self, texts: Sequence[str]) -> None:
        import bm25s

        words = [self.words(text) for text in texts]
        empty = next((place for place, found in enumerate(words) if not found), None)
        if empty is not None:
            raise DataError(f"document number {empty + 1} has no words after tokenisation")
        self.counts_ = bm25s.BM25(k1=self.k1, b=self.b)
        self.counts_.index(words, show_progress=False)

    def words(self, text: str) -> list[str]:
        """The words of a text, as they are compared."""
        found = WORD.findall(text.lower())
        return [stem(word) for word in found] if self.stemmed else found

    def scores(self, query: str) -> np.ndarray:
        """(n,) float32 the score of each document."""
        known = self.counts_.vocab_dict
        words = [word for word in self.words(query) if word in known]
        if not words:
            return np.zeros(self.counts_.scores["num_docs"], dtype=np.float32)
        return np.asarray(self.counts_.get_scores(words), dtype=np.float32)

    def _ranked(self, queries: list[str], k: int) -> list[Ranking]:
        found = []
        for query in queries:
            scores = self.scores(query)
            places = [place for place in best_of(scores, k) if scores[place] > 0]
            found.append(([self.documents_[place].id for place in places], scores[places]))
        return found

    def score_pairs(self, queries: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """(n,) the score of each text for its query, by counts of these texts."""
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        own = type(self)(**self.get_params(deep=False))
        own._counted(list(places))
        rows = {query: own.scores(query) for query in dict.fromkeys(queries)}
        both = zip(queries, texts, strict=True)
        return np.array([rows[query][places[text]] for query, text in both], dtype=np.float32)

    def index_bytes(self) -> int:
        """Bytes of the counts and the vocabulary."""
        arrays = (self.counts_.scores[name] for name in ("data", "indices", "indptr"))
        words = sum(len(word.encode()) + 4 for word in self.counts_.vocab_dict)
        return words + sum(int(np.asarray(array).nbytes) for array in arrays)

    def _write(self, folder: Path) -> dict[str, Any]:
        write_documents(folder / "documents.jsonl", self.documents_)
        kept = self.counts_.scores
        names = ("data", "indices", "indptr")
        tensors = {name: torch.as_tensor(np.asarray(kept[name])) for name in names}
        write_tensors(folder / "counts.safetensors", tensors)
        write_json(folder / "words.json", self.counts_.vocab_dict)
        return {}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        needs("bm25s", "BM25")
        import bm25s

        self.documents_ = kept_documents(folder / "documents.jsonl")
        self.counts_ = bm25s.BM25(k1=self.k1, b=self.b)
        kept = read_tensors(folder / "counts.safetensors")
        self.counts_.scores = {name: array.numpy() for name, array in kept.items()}
        self.counts_.scores["num_docs"] = len(self.documents_)
        words = read_json(folder / "words.json", {"*": int})
        self.counts_.vocab_dict, self.counts_.nonoccurrence_array = words, None
        self.counts_.unique_token_ids_set = set(words.values())
