"""Search an index: candidates by the texts' vectors or by words, ordered by the merged score.

    cls+bow    the nearest texts by s_CLS, then s of these                            the default
    bow+cls    the best by s_token from the words' own lists, then s of these         exact matching
    hybrid     both lists together, the scores that one of them lacks filled in       exact matching
    cls, bow   one score alone

A document scores as its best passage. A word whose gate is closed is not there: of a passage all
of whose products with a query word are negative, the largest of these counts, and no 0 of a closed
word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stackwise.build.colberter.index.folder import Index
from stackwise.build.colberter.index.segment import Segment
from stackwise.errors import KnobError
from stackwise.tasks.retrieval.retriever import best_of

Workflow = Literal["cls+bow", "bow+cls", "hybrid", "cls", "bow"]


@dataclass(frozen=True)
class QueryVectors:
    """A query as it is matched.

    Attributes:
        cls: (cls_dim,). vectors: (i, d) and words: (i,) of its words. weight: of s_CLS.
    """

    cls: np.ndarray
    vectors: np.ndarray
    words: np.ndarray
    weight: float
    exact: bool


def search_index(
    index: Index, query: QueryVectors, k: int, workflow: Workflow, candidates: int
) -> tuple[list[str], np.ndarray]:
    """The ids and scores of the k best documents.

    Args:
        candidates: passages that are ordered by the merged score.

    Raises:
        KnobError: the workflow needs exact matching, and the index has none.
    """
    if workflow in ("bow+cls", "hybrid") and not query.exact:
        raise KnobError(
            f"the workflow {workflow!r} finds words in lists of equal ones, which needs "
            "exact_match; take 'cls+bow'"
        )
    parts = [_in_segment(segment, query, workflow, candidates) for segment in index.segments]
    # of all segments' candidates those that count, as if there were one segment
    owner = np.repeat(np.arange(len(parts)), [len(own[0]) for own in parts])
    if not len(owner):
        return [], np.zeros(0, np.float32)
    passages, first, scores = (np.concatenate([own[i] for own in parts]) for i in range(3))
    if workflow in ("cls+bow", "bow+cls"):
        kept = np.sort(best_of(first, candidates))
        owner, passages, scores = owner[kept], passages[kept], scores[kept]
    return _documents(index, owner.astype(int), passages, scores, k)


def _documents(
    index: Index, owner: np.ndarray, passages: np.ndarray, scores: np.ndarray, k: int
) -> tuple[list[str], np.ndarray]:
    """The best documents, each by its best passage."""
    found: dict[str, float] = {}
    for place in best_of(scores, len(scores)):
        segment = index.segments[owner[place]]
        name = segment.ids[int(segment.document[passages[place]])]
        found.setdefault(name, float(scores[place]))
        if len(found) == k:
            break
    return list(found), np.array(list(found.values()), dtype=np.float32)


def _in_segment(
    segment: Segment, query: QueryVectors, workflow: Workflow, candidates: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidate passages, the score that they were found by, and the final one."""
    alive = segment.alive()
    cls = segment.cls @ query.cls
    token = None
    if workflow in ("bow+cls", "hybrid", "bow"):
        token = token_scores_by_word(segment, query) if query.exact else None
        if token is None:
            token = token_scores(segment, query, np.arange(len(cls)))
    if workflow == "cls":
        passages = _best(cls, alive, candidates)
        return passages, cls[passages], cls[passages]
    if workflow == "bow":
        assert token is not None
        passages = _best(token, alive, candidates)
        return passages, token[passages], token[passages]
    if workflow == "cls+bow":
        passages = _best(cls, alive, candidates)
        first = cls[passages]
    elif workflow == "bow+cls":
        assert token is not None
        passages = _best(token, alive, candidates)
        first = token[passages]
    else:
        assert token is not None
        passages = np.union1d(_best(cls, alive, candidates), _best(token, alive, candidates))
        first = cls[passages]
    refined = token_scores(segment, query, passages)
    return passages, first, query.weight * cls[passages] + (1 - query.weight) * refined


def _best(scores: np.ndarray, alive: np.ndarray, count: int) -> np.ndarray:
    """The places of the best passages that are there, rising."""
    there = np.flatnonzero(alive)
    return np.sort(there[best_of(scores[there], count)])


def token_scores(segment: Segment, query: QueryVectors, passages: np.ndarray) -> np.ndarray:
    """(p,) s_token of some passages."""
    if not len(passages):
        return np.zeros(0, np.float32)
    words, vectors, starts = segment.words_of(passages)
    own = query.words if query.exact else None
    return flat_maxsim(query.vectors, vectors, starts, (own, words) if own is not None else None)


def flat_maxsim(
    query: np.ndarray,
    vectors: np.ndarray,
    starts: np.ndarray,
    words: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """The sum over query words of the best match, for texts whose words lie one after the other.

    Args:
        query: (i, d). vectors: (w, d) of all texts. starts: (p,) where each text begins.
        words: (i,) and (w,) ids, where only equal words match.

    Returns:
        (p,) float32.
    """
    products = query @ vectors.T
    if words is not None:
        products *= words[0][:, None] == words[1][None, :]
    return np.asarray(np.maximum.reduceat(products, starts, axis=1).sum(0), dtype=np.float32)


def token_scores_by_word(segment: Segment, query: QueryVectors) -> np.ndarray:
    """(P,) s_token of all passages, of which only those are looked at that share a word."""
    offsets = np.asarray(segment.array("offsets"))
    found = np.zeros(len(offsets) - 1, dtype=np.float32)
    vectors = segment.array("vectors")
    for word, own in zip(query.words, query.vectors, strict=True):
        places = segment.postings(int(word))
        if not len(places):
            continue
        passages = np.searchsorted(offsets, places, side="right") - 1
        products = vectors[places].astype(np.float32) @ own
        alone = offsets[passages + 1] - offsets[passages] == 1  # no other word gives a 0
        found[passages] += np.where(alone, products, np.maximum(products, 0))
    return found


def words_matched(
    query: QueryVectors, words: np.ndarray, vectors: np.ndarray
) -> tuple[Sequence[int], np.ndarray]:
    """Of each query word, the place of the document word that it matches best, and the product."""
    products = query.vectors @ vectors.T
    if query.exact:
        products = products * (query.words[:, None] == words[None, :])
    places = products.argmax(1)
    return places.tolist(), products[np.arange(len(places)), places]
