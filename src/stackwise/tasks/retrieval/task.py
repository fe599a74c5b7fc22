"""The task of retrieval: which documents answer a query?

    task = RetrievalTask.load("collection/")        # corpus.jsonl, queries.jsonl, qrels.tsv
    task.judge(retriever, "test").scores["ndcg@10"]

All documents are searched, in every part; the queries are parted. A retriever learns from pairs of
a query and a document that answers it. Without queries the pairs are made of the documents (a title
and its text, a first sentence and what follows), nothing is judged, and there is no score.
"""

import os
import time
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from stackwise.catalog import Knob, task
from stackwise.errors import DataError
from stackwise.learning.metrics import Metric
from stackwise.protocols import Judged, Part
from stackwise.tasks.labelled.split import split_parts
from stackwise.tasks.language.task import LanguageTask
from stackwise.tasks.retrieval.collection import (
    Collection,
    Document,
    Pair,
    Query,
    pairs_of_documents,
)
from stackwise.tasks.retrieval.marks import recognises
from stackwise.tasks.retrieval.measures import ndcg, recall, reciprocal_rank
from stackwise.tasks.retrieval.reading import read_collection
from stackwise.tasks.retrieval.small import small_collection
from stackwise.tasks.retrieval.writing import write_rankings

DEEP = 100
"""Documents of a ranking that is judged."""
FIRST = 10
"""Of these, those that decide."""
Pairs = Literal["auto", "judged", "titles", "both"]


@task(
    title="Documents, ranked by how well they answer a query",
    recognises=recognises,
    sample="collection/",
)
class RetrievalTask(LanguageTask):
    """Documents and queries, of which the queries are parted.

    Attributes:
        collection: the documents, all queries and their judgements.
    """

    name: ClassVar[str] = "retrieval"
    target: ClassVar[str] = "the documents that answer"
    problem: ClassVar[str] = "retrieval"
    metric: ClassVar[Metric] = Metric(f"ndcg@{FIRST}", "max")

    collection: Collection

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        queries: Annotated[
            str | Any | None, Knob("a file of queries; else queries.jsonl in SOURCE, or none")
        ] = None,
        judgements: Annotated[
            str | Any | None, Knob("a file of query, document, score; else qrels.tsv in SOURCE")
        ] = None,
        field: Annotated[str, Knob("the column of the text, where there are columns")] = "text",
        pairs: Annotated[
            Pairs,
            Knob("learn from judged queries, or from titles and their texts; auto: where they are"),
        ] = "auto",
        validation: Annotated[float, Knob("share of the queries", gt=0, lt=0.5)] = 0.2,
        test: Annotated[float, Knob("share of the queries", gt=0, lt=0.9)] = 0.2,
        split_seed: Annotated[int, Knob("of the split", ge=0)] = 0,
    ) -> "RetrievalTask":
        """Read a collection and part its queries.

        Args:
            source: a folder in BEIR's layout (corpus.jsonl, queries.jsonl, qrels.tsv), a folder of
                text files, a file of records with a text, a named collection, or a list.

        Raises:
            DataError: a document is empty, two have one id, a judgement names what is not there, or
                a file cannot be read.
        """
        task = cls()
        task.collection = read_collection(source, field, queries, judgements)
        found = task.collection
        task.title = found.title
        if pairs in ("judged", "both") and not found.queries:
            raise DataError(f"pairs={pairs} needs queries; {found.title} has none")
        asked = "judged" if found.queries else "titles"
        task._pairs = asked if pairs == "auto" else pairs
        given = {
            "queries": _as_option(queries), "judgements": _as_option(judgements), "field": field,
            "pairs": pairs, "validation": validation, "test": test, "split_seed": split_seed,
        }  # fmt: skip
        task.options = {key: value for key, value in given.items() if value is not None}
        task._shares = {"validation": validation, "test": test}
        task._seed = split_seed
        task._rows = task._parted(len(found.queries)) if found.queries else {}
        task.data_hash = found.hash(f"{validation} {test} {split_seed} {task._pairs}")
        answers = f", {len(found.queries):,} queries" if found.queries else ""
        task.notes = [f"{len(found.documents):,} documents{answers}", *found.notes]
        if not found.queries:
            task.notes.append(
                "no queries were given: what is learned from is made of the documents"
            )
        return task

    _pairs: str
    _shares: dict[str, float]
    _seed: int
    _rows: dict[str, np.ndarray]

    def _parted(self, count: int) -> dict[str, np.ndarray]:
        """The numbers of each part's queries."""
        said = [self.collection.parts.get(one.id) for one in self.collection.queries]
        how: Literal["given", "random"] = "given" if any(said) else "random"
        frame = pd.DataFrame({"part": said})
        found = split_parts(
            frame, np.zeros(count), how=how, column="part" if any(said) else None,
            seed=self._seed, **self._shares,
        )  # fmt: skip
        return {"train": found.train, "validation": found.validation, "test": found.test}

    @property
    def unscored(self) -> str | None:
        """Why nothing is scored; None where there are judgements."""
        if self.collection.queries:
            return None
        return (
            f"{self.title} has no judged queries, so that there is no score to compare by; give "
            "--queries and --judgements"
        )

    @property
    def documents(self) -> list[Document]:
        """All documents, in their order."""
        return self.collection.documents

    def queries_of(self, part: Part) -> list[tuple[int, Query]]:
        """The queries of a part, each with its number in the source."""
        if part not in ("train", "validation", "test"):
            raise DataError(f"there is no part {part!r}; there is train, validation and test")
        return [(int(row), self.collection.queries[row]) for row in self._rows.get(part, ())]

    def pairs(self, part: Part) -> list[Pair]:
        """What training reads of a part: a pair for each relevant document of its queries, and, or
        where there are no queries, pairs of the documents themselves.
        """
        found = []
        if self._pairs in ("judged", "both"):
            texts = {one.id: one.whole for one in self.documents}
            for row, query in self.queries_of(part):
                own = self.collection.judged[query.id]
                right = [one for one, value in own.items() if value > 0]
                found += [Pair(query.text, texts[one], query=row) for one in right]
        if self._pairs in ("titles", "both"):
            made = pairs_of_documents(self.documents)
            if self._pairs == "titles" and len(made) < 5:
                raise DataError(
                    f"{len(made)} documents of {self.title} have a title or a first sentence and "
                    "something behind it: too few to learn from; give queries, or at least 5 such"
                )
            share = self._shares["validation"]
            held = np.random.default_rng(self._seed).random(len(made)) < share
            if self._pairs == "titles":
                held[[0, -1]] = True, False  # each part has one at least
            if part != "test":
                found += [one for one, out in zip(made, held) if bool(out) == (part != "train")]
        return found

    @property
    def size_bytes(self) -> int:
        """Bytes of the texts."""
        return sum(len(one.whole) for one in self.documents)

    def judge(self, learner: Any, part: Part) -> Judged:
        """Rank all documents for each query of a part. Without judgements there are no
        scores and no samples.
        """
        asked = self.queries_of(part)
        if not asked:
            return Judged({}, pd.DataFrame(columns=["row", "value", "weight"]), 0.0)
        texts = [query.text for _, query in asked]
        began = time.perf_counter()
        rankings = learner.rank(texts, DEEP)
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        learner.rank(texts[:1], FIRST)
        one = time.perf_counter() - began
        samples = []
        for (row, query), (ids, scores) in zip(asked, rankings, strict=True):
            own = self.collection.judged[query.id]
            samples.append({
                "row": row, "value": ndcg(ids, scores, own, FIRST), "weight": 1.0,
                "reciprocal_rank": reciprocal_rank(ids, scores, own, FIRST),
                "recall": recall(ids, scores, own, FIRST),
                "recall_deep": recall(ids, scores, own, DEEP), "query": query.text,
                "first": ids[0] if ids else "",
            })  # fmt: skip
        table = pd.DataFrame(samples)
        scored = {
            self.metric.name: float(table["value"].mean()),
            f"mrr@{FIRST}": float(table["reciprocal_rank"].mean()),
            f"recall@{FIRST}": float(table["recall"].mean()),
            f"recall@{DEEP}": float(table["recall_deep"].mean()),
            "bytes_per_document": learner.index_bytes() / len(self.documents),
        }
        return Judged(scored, table, seconds, one)

    @staticmethod
    def write_predictions(
        path: Any,
        learner: Any,
        source: Any,
        *,
        k: Annotated[int, Knob("documents that are written of each query", short="k", ge=1)] = 10,
        dim: Annotated[
            int | None, Knob("numbers of each vector that are compared, where it can be cut", ge=1)
        ] = None,
    ) -> int:
        """Search for each query of a source: its lines, the records of a file, or queries.jsonl of
        a folder. A line of JSON each; a path that ends in .trec or .run becomes a TREC run.
        """
        return write_rankings(path, learner, source, k, dim)

    def rows(self) -> dict[str, int]:
        """Queries of each part; without queries the pairs that are learned from."""
        if self._rows:
            return {part: len(rows) for part, rows in self._rows.items()}
        parts: tuple[Part, ...] = ("train", "validation", "test")
        return {part: len(self.pairs(part)) for part in parts}

    @classmethod
    def small(cls) -> "RetrievalTask":
        """30 sentences with a query each."""
        found = small_collection()
        return cls.load(
            found["documents"], queries=found["queries"], judgements=found["judgements"]
        )


def _as_option(value: Any) -> str | None:
    """What a record keeps of a source: a path or a name."""
    return str(value) if isinstance(value, (str, os.PathLike)) else None
