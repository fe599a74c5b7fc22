"""What all retrievers share: they learn of a task or of documents, rank, and show what they found.

retriever = BM25Retriever().fit(documents)
retriever.rank(["why do tails wag"], 10)        [(ids, scores)], the best first
retriever.search("why do tails wag", k=3)       Hits: documents, with their scores
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.files import read_lines, replacing
from stackwise.learning.learner import Learner
from stackwise.protocols import Task
from stackwise.tasks.retrieval.collection import Collection, Document
from stackwise.tasks.retrieval.hits import Hits, hit
from stackwise.tasks.retrieval.reading import read_documents

Ranking = tuple[list[str], np.ndarray]
"""Ids and their scores, the best first."""
LONGEST_QUERY = 2000
"""Characters of a query that are read."""


class Retriever(Learner):
    """The base of all retrievers. Fitted: `documents_`."""

    tasks: ClassVar[tuple[str, ...]] = ("retrieval",)
    verbs: ClassVar[tuple[str, ...]] = ("search",)
    fitted: ClassVar[str] = "documents_"

    documents_: Sequence[Document]

    def rank(self, queries: Sequence[str], k: int = 10) -> list[Ranking]:
        """The k best documents of each query, or all where there are fewer.

        Raises:
            DataError: a query is blank.
        """
        return self._ranked(self._asked(queries), k)

    def _asked(self, queries: Sequence[str]) -> list[str]:
        """Queries as they are read, once something was learned."""
        check_is_fitted(self, self.fitted)
        if isinstance(queries, str):
            raise DataError("rank takes a list of queries, not one text")
        for query in queries:
            if not any(sign.isalnum() for sign in query):
                raise DataError(f"the query {query!r} has no words")
        return [query[:LONGEST_QUERY] for query in queries]

    def _ranked(self, queries: list[str], k: int) -> list[Ranking]:
        raise NotImplementedError

    def predict(self, X: Any) -> list[list[str]]:
        """The ids of the ten best documents of each query."""
        return [ids for ids, _ in self.rank(list(X))]

    def document(self, name: str) -> Document:
        """The document of an id.

        Raises:
            DataError: there is none.
        """
        places = getattr(self, "_places", None)
        if places is None:
            places = self._places = {one.id: at for at, one in enumerate(self.documents_)}
        if name not in places:
            raise DataError(f"there is no document {name!r}")
        return self.documents_[places[name]]

    def search(
        self,
        query: Annotated[str, Knob("what is asked")],
        *,
        k: Annotated[int, Knob("documents that are shown", short="k", ge=1)] = 10,
    ) -> Hits:
        """Find the documents that answer a query best."""
        return self._hits(query, self.rank([query], k)[0])

    def _hits(self, query: str, ranking: Ranking) -> Hits:
        """Documents of a ranking with their scores."""
        found = zip(*ranking, strict=True)
        return Hits(query, [hit(r, s, self.document(i)) for r, (i, s) in enumerate(found, 1)])

    def index_bytes(self) -> int:
        """Bytes of what is searched, the texts themselves not among them."""
        raise NotImplementedError


def documents_of(source: Any, ids: Sequence[str] | None = None) -> list[Document]:
    """The documents of a task, or of whatever a collection is read from.

    Args:
        ids: of a list of texts, where they have names.

    Raises:
        DataError: there are none, one is empty, or two have one id.
    """
    if ids is not None:
        texts = list(source)
        if len(texts) != len(ids):
            raise DataError(f"{len(texts)} documents and {len(ids)} ids do not go together")
        source = [Document(str(name), text) for name, text in zip(ids, texts, strict=True)]
    if isinstance(source, Task):
        return list(source.documents)  # type: ignore[attr-defined]
    if source is None:
        raise DataError("there are no documents to search in")
    given = Collection("what was given", list(read_documents(source)))
    return given.checked().documents


def best_of(scores: np.ndarray, k: int) -> np.ndarray:
    """(k,) places of the largest of (n,) scores, the largest first; of equal ones the first."""
    k = min(k, len(scores))
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero(scores >= least)
    else:
        places = np.arange(len(scores))
    return places[np.argsort(-scores[places], kind="stable")][:k]


def write_documents(path: Path, documents: Sequence[Document]) -> None:
    """A line of JSON a document."""
    import json

    with replacing(path) as beside, open(beside, "w", encoding="utf-8") as file:
        for one in documents:
            file.write(json.dumps(one.as_dict(), ensure_ascii=False) + "\n")


def kept_documents(path: Path) -> list[Document]:
    """What `write_documents` wrote."""
    return [
        Document(one["id"], one["text"], one["title"], one["fields"])
        for one in read_lines(path, {"id": str, "text": str, "title": str, "fields": dict})
    ]
