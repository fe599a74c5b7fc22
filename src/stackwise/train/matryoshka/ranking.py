"""How good a ranking is, from which of its places hit.

    precision@r = hits among the first r / r
    mAP@k  = mean over queries of  1/k sum_{r <= k, hit at r} precision@r

The average divides by k, as the paper's code has it, and not by the hits: a query with fewer than k
relevant entries cannot reach 1.
"""

import numpy as np

from stackwise.errors import DataError


def mean_average_precision(hits: np.ndarray, k: int) -> float:
    """mAP@k of (queries, places) hits, the best place first."""
    kept = _first(hits, k)
    precision = kept.cumsum(1) / np.arange(1, k + 1)
    return float((precision * kept).sum(1).mean() / k)


def precision_at(hits: np.ndarray, k: int) -> float:
    """The mean share of hits among the first k places."""
    return float(_first(hits, k).mean())


def recall_at(hits: np.ndarray, k: int, relevant: np.ndarray) -> float:
    """The mean share of each query's relevant entries, (queries,) counts, that the first k hold."""
    return float((_first(hits, k).sum(1) / np.asarray(relevant)).mean())


def _first(hits: np.ndarray, k: int) -> np.ndarray:
    if hits.ndim != 2 or not 1 <= k <= hits.shape[1]:
        raise DataError(f"hits {hits.shape} have no first {k} places of each query")
    return np.asarray(hits[:, :k], dtype=np.float64)
