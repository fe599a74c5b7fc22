"""Pairs to learn from: which query is answered by which document, negatives, and a teacher's
margins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.tasks.retrieval.baselines.bm25 import BM25Retriever
from stackwise.tasks.retrieval.collection import Pair
from stackwise.tasks.retrieval.retriever import best_of

HARDEST = 20
"""Of the documents that BM25 finds for a query, those from which a negative is drawn."""
Negatives = Literal["none", "random", "bm25"]


def pair_knobs(
    *,
    negatives: Annotated[
        Negatives, Knob("a further document a pair: none, random, or bm25's best wrong one")
    ] = "none",
    most_pairs: Annotated[int, Knob("pairs that are learned from: so many are drawn", ge=2)] = (
        20_000
    ),
) -> None:
    """Which pairs are learned from."""


@dataclass
class TrainingPairs:
    """Pairs over lists of different texts.

    Attributes:
        queries, documents: the texts, each once. pairs: (n, 2) int64 places in them.
        answers: by query, the places of the documents that answer it.
        negatives: (n,) places of documents that do not answer, or None.
        margins: (n,) float32 a teacher's score of the positive minus that of the negative, or None.
    """

    queries: list[str]
    documents: list[str]
    pairs: np.ndarray
    answers: dict[int, set[int]]
    negatives: np.ndarray | None = None
    margins: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pairs)


def training_pairs(found: Sequence[Pair], most: int, seed: int) -> TrainingPairs:
    """Gather pairs; of more than `most`, so many are drawn.

    Raises:
        DataError: there are fewer than two different documents.
    """
    if len(found) > most:
        drawn = np.sort(np.random.default_rng(seed).permutation(len(found))[:most])
        found = [found[place] for place in drawn]
    queries: dict[str, int] = {}
    documents: dict[str, int] = {}
    pairs, negatives = [], []
    answers: dict[int, set[int]] = {}
    for one in found:
        query = queries.setdefault(one.asked, len(queries))
        place = documents.setdefault(one.positive, len(documents))
        pairs.append((query, place))
        answers.setdefault(query, set()).add(place)
        if one.negative is not None:
            negatives.append(documents.setdefault(one.negative, len(documents)))
    if len(documents) < 2:
        raise DataError(f"{len(documents)} documents with a query teach nothing; give at least 2")
    if negatives and len(negatives) != len(pairs):
        raise DataError(
            f"{len(negatives)} of {len(pairs)} pairs have a negative; give all one, or none"
        )
    made = TrainingPairs(list(queries), list(documents), np.array(pairs, dtype=np.int64), answers)
    made.negatives = np.array(negatives, dtype=np.int64) if negatives else None
    if negatives and all(one.margin is not None for one in found):
        made.margins = np.array([one.margin for one in found], dtype=np.float32)
    return made


def draw_negatives(found: TrainingPairs, how: str, seed: int) -> None:
    """Give each pair a document that does not answer its query: any one (`random`), or one of those
    that BM25 takes for answers (`bm25`).
    """
    generator = np.random.default_rng(seed)
    hard: dict[int, np.ndarray] = {}
    if how == "bm25":
        words = BM25Retriever().fit(found.documents)
        for query, text in enumerate(found.queries):
            near = best_of(words.scores(text), HARDEST + len(found.answers[query]))
            hard[query] = np.array([one for one in near if one not in found.answers[query]])
    drawn = []
    for query, place in found.pairs:
        near = hard.get(int(query), np.array([]))
        if len(near):
            drawn.append(int(generator.choice(near[:HARDEST])))
            continue
        others = [
            one for one in range(len(found.documents)) if one not in found.answers[int(query)]
        ]
        drawn.append(int(generator.choice(others)) if others else int(place))
    found.negatives = np.array(drawn, dtype=np.int64)
