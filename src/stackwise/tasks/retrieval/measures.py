"""How good a ranking is: nDCG@k, MRR@k and recall@k of one query.

    nDCG@k = sum_{r <= k} g_r / log2(r + 1)  over the same sum of the best ranking;  g: relevance
    RR@k   = 1 / rank of the first relevant document, 0 where it is none of the first k
    R@k    = relevant documents among the first k / relevant documents

As ir-measures counts them. Equal scores have no order of their own: nDCG and recall put the larger
id first, as trec_eval does, and RR the smaller one, as MS MARCO's script does.
"""

from collections.abc import Mapping, Sequence

import numpy as np


def ordered(ids: Sequence[str], scores: Sequence[float], *, larger_first: bool = True) -> list[str]:
    """Ids by falling score; of equal scores the larger (or the smaller) id first."""
    by_id = sorted(zip(ids, scores, strict=True), key=lambda one: one[0], reverse=larger_first)
    return [one for one, _ in sorted(by_id, key=lambda one: -one[1])]


def ndcg(
    ids: Sequence[str], scores: Sequence[float], relevance: Mapping[str, int], k: int
) -> float:
    """nDCG@k; `relevance` by document, those that are not named are not relevant."""
    gains = [max(relevance.get(one, 0), 0) for one in ordered(ids, scores)[:k]]
    best = sorted((value for value in relevance.values() if value > 0), reverse=True)[:k]
    return _discounted(gains) / _discounted(best) if best else 0.0


def reciprocal_rank(
    ids: Sequence[str], scores: Sequence[float], relevance: Mapping[str, int], k: int
) -> float:
    """1 / rank of the first relevant document among the first k, else 0."""
    ranked = ordered(ids, scores, larger_first=False)[:k]
    return next((1 / rank for rank, one in enumerate(ranked, 1) if relevance.get(one, 0) > 0), 0.0)


def recall(
    ids: Sequence[str], scores: Sequence[float], relevance: Mapping[str, int], k: int
) -> float:
    """The share of the relevant documents that the first k hold."""
    right = {one for one, value in relevance.items() if value > 0}
    return len(right & set(ordered(ids, scores)[:k])) / len(right) if right else 0.0


def _discounted(gains: Sequence[int]) -> float:
    ranks = np.arange(2, len(gains) + 2)
    return float((np.asarray(gains, dtype=np.float64) / np.log2(ranks)).sum())
