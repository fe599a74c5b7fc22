"""Scores of moments against labels: by moments, by events, by ranges.

- average precision over moments: needs no threshold, and decides;
- F1 at the detector's own threshold, and the best F1 that any threshold would have had, an oracle;
- event-wise F1: an event is found where one of its moments is flagged; a run of flagged moments is
  right where it touches an event;
- range-based F1 (Tatbul et al. 2018, flat bias): how much of each event is flagged, divided by the
  number of runs that flag it, and how much of each run lies in events;
- point-adjusted F1: an event that is touched counts as flagged whole. Random scores do well by
  it, so it stands next to what as many randomly flagged moments reach.
"""

import numpy as np

DRAWS = 5
"""Times that moments are flagged at random, whose mean stands beside a point-adjusted F1."""


def runs_of(flags: np.ndarray) -> np.ndarray:
    """(k, 2) the start and the stop (behind the last) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2)


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Average precision; a moment without a score comes last. NaN where no moment is labelled."""
    from sklearn.metrics import average_precision_score

    if not labels.any():
        return float("nan")
    return float(average_precision_score(labels, known(scores)))


def known(scores: np.ndarray) -> np.ndarray:
    """Scores in which a moment that has none gets the least one."""
    there = np.isfinite(scores)
    least = scores[there].min() if there.any() else 0.0
    return np.where(there, scores, least)


def f1(found: float, truth: float) -> float:
    """The harmonic mean of precision and recall."""
    return 2 * found * truth / (found + truth) if found + truth else 0.0


def f1_score(labels: np.ndarray, flags: np.ndarray) -> float:
    """F1 over moments."""
    hits = float((labels & flags).sum())
    return f1(hits / max(int(flags.sum()), 1), hits / max(int(labels.sum()), 1))


def best_f1(labels: np.ndarray, scores: np.ndarray) -> float:
    """The largest F1 over moments of any threshold: known only to who has the labels."""
    order = np.argsort(-known(scores), kind="stable")
    sorted_scores = known(scores)[order]
    hits = np.cumsum(labels[order])
    last = np.append(np.diff(sorted_scores) != 0, True)  # equal scores are flagged together
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / max(int(labels.sum()), 1)
    total = precision + recall
    found = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return float(found[last].max())


def event_f1(labels: np.ndarray, flags: np.ndarray) -> float:
    """F1 over events and runs of flagged moments."""
    events, runs = runs_of(labels), runs_of(flags)
    found = np.mean([flags[a:b].any() for a, b in events]) if len(events) else 0.0
    right = np.mean([labels[a:b].any() for a, b in runs]) if len(runs) else 0.0
    return f1(float(right), float(found))


def range_f1(labels: np.ndarray, flags: np.ndarray) -> float:
    """Range-based F1 with flat bias, no reward for mere existence, and cardinality 1 / x."""
    return f1(_covered(runs_of(flags), labels), _covered(runs_of(labels), flags))


def _covered(ranges: np.ndarray, other: np.ndarray) -> float:
    """The mean share of ranges that lies in the other's, over the number of its runs there."""
    shares = []
    for start, stop in ranges:
        inside = other[start:stop]
        pieces = max(len(runs_of(inside)), 1)
        shares.append(inside.mean() / pieces)
    return float(np.mean(shares)) if shares else 0.0


def point_adjust(flags: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(T,) the flags, with each event that is touched flagged whole."""
    made = flags.copy()
    for start, stop in runs_of(labels):
        if flags[start:stop].any():
            made[start:stop] = True
    return made


def adjusted_f1(labels: np.ndarray, flags: np.ndarray) -> float:
    """F1 over moments after the point adjustment."""
    return f1_score(labels, point_adjust(flags, labels))


def random_adjusted_f1(labels: np.ndarray, flagged: int) -> float:
    """What as many moments flagged at random reach after the point adjustment, in the mean."""
    found = []
    for draw in range(DRAWS):
        flags = np.zeros(len(labels), bool)
        places = np.random.default_rng(draw).choice(len(labels), flagged, replace=False)
        flags[places] = True
        found.append(adjusted_f1(labels, flags))
    return float(np.mean(found))


def scores_of(labels: np.ndarray, scores: np.ndarray, flags: np.ndarray) -> dict[str, float]:
    """Every score, the deciding one first; not a number where no moment is an anomaly.

    Args:
        labels: (T,) bool. scores: (T,), NaN where there is none. flags: (T,) bool.
    """
    if not labels.any():
        return {"average_precision": float("nan")}
    return {
        "average_precision": average_precision(labels, scores),
        "f1": f1_score(labels, flags),
        "event_f1": event_f1(labels, flags),
        "range_f1": range_f1(labels, flags),
        "best_f1": best_f1(labels, scores),
        "adjusted_f1": adjusted_f1(labels, flags),
        "adjusted_f1_of_random": random_adjusted_f1(labels, int(flags.sum())),
    }
