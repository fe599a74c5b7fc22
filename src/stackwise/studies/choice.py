"""Which method a comparison keeps: by validation, and of those that are as good the cheaper.

Methods are compared on the same validation samples, none of which stopped a fit. Drawn again and
again with replacement, they give the standard error of the difference of two methods' scores,

    se(a, b) = std over draws of (score_a - score_b)        the same samples for both

which for a mean of losses is the standard deviation of a sample's difference over sqrt(n). A
method whose difference from the best is within one such error is as good as that one, as far as
these samples can tell. Of these a cheaper is kept, where it takes at most a third of the best's
time to fit and to predict 1,000 samples: of those that cost about as much as the cheapest the best,
where all below a second are alike. None is kept that another method as cheap beats: one whose
scores vary much is soon within its error. Test samples are not asked.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stackwise.files import believing
from stackwise.protocols import Chooses
from stackwise.runs import Run
from stackwise.studies.ranking import method_of

if TYPE_CHECKING:
    import pandas as pd

DRAWS, LEAST = 100, 20
MOST_ROWS = 2000
"""Samples of a draw at most; the error of more follows from that of so many."""
CHEAPER = 3.0
"""How many times cheaper a method is that is kept in place of the best."""
QUICK = 1.0
"""Seconds below which methods cost the same."""


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        method: the one to keep. best: the one with the best validation score.
        difference: of their validation scores, positive, and error: its standard error; None where
            they are the same.
    """

    method: str
    best: str
    difference: float | None = None
    error: float | None = None


def chosen(
    ranking: "pd.DataFrame", finished: Sequence[Run], task: Any, *, seconds: float | None = None
) -> Choice:
    """Choose a method of a ranking, see `rank`, in so many seconds where they are limited."""
    sign = 1.0 if task.metric.mode == "min" else -1.0
    loss = sign * ranking.set_index("method")["validation"]
    cost = _costs(ranking)
    best = str(loss.idxmin())
    cheaper = [
        str(name)
        for name in loss.index
        if cost[name] * CHEAPER <= cost[best] and not _beaten(name, best, loss, cost)
    ]
    if not cheaper or not isinstance(task, Chooses):
        return Choice(best, best)
    errors = standard_errors(finished, task, best, cheaper, seconds=seconds)
    apart = {name: float(loss[name] - loss[best]) for name in cheaper}
    within = [name for name in cheaper if apart[name] <= errors[name]]
    if not within:
        return Choice(best, best)
    quickest = min(cost[name] for name in within)
    fine = [name for name in within if cost[name] < CHEAPER * quickest]
    method = min(fine, key=lambda name: loss[name])
    return Choice(method, best, apart[method], errors[method])


def _costs(ranking: "pd.DataFrame") -> "pd.Series":
    """Seconds of each method to fit, and to predict 1,000 samples."""
    table = ranking.set_index("method")
    return (table["fit_seconds"] + table["predict_ms"] / 1e3).clip(lower=QUICK)


def _beaten(name: str, best: str, loss: "pd.Series", cost: "pd.Series") -> bool:
    """Whether another method than the best has a better score at no more cost."""
    others = loss.index.difference([best])
    return bool(((loss[others] < loss[name]) & (cost[others] <= cost[name])).any())


def standard_errors(
    finished: Sequence[Run],
    task: Chooses,
    best: str,
    others: Sequence[str],
    *,
    seed: int = 0,
    seconds: float | None = None,
) -> dict[str, float]:
    """The standard error of the difference of each method's score from that of `best`.

    Args:
        seconds: that it may take: fewer draws are made then, but some.
    """
    began = time.monotonic()
    wanted = {best, *others}
    found = []
    for run in finished:
        if method_of(run.record) in wanted:
            with believing(run.folder):
                found.append((method_of(run.record), *task.chosen_by(run)))
    common = found[0][1]
    for _, rows, _ in found[1:]:
        common = common[np.isin(common, rows)]
    scorers: dict[str, list[Callable[[np.ndarray], float]]] = {}
    for name, rows, scorer in found:
        scorers.setdefault(name, []).append(_at(scorer, _places(rows, common)))
    generator = np.random.default_rng(seed)
    size = min(len(common), MOST_ROWS)
    differences: dict[str, list[float]] = {name: [] for name in others}
    for _ in range(DRAWS):
        drawn = generator.integers(len(common), size=size)
        means = {n: np.mean([scorer(drawn) for scorer in each]) for n, each in scorers.items()}
        for name in others:
            differences[name].append(float(means[name] - means[best]))
        over = seconds is not None and time.monotonic() - began > seconds
        if over and len(differences[others[0]]) >= LEAST:
            break
    share = np.sqrt(size / len(common))
    return {name: float(np.nanstd(values) * share) for name, values in differences.items()}


def _places(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where the numbers `wanted` stand in `rows`."""
    order = np.argsort(rows, kind="stable")
    return np.asarray(order[np.searchsorted(rows, wanted, sorter=order)])


def _at(scorer: Callable[[np.ndarray], float], places: np.ndarray) -> Callable[..., float]:
    return lambda drawn: scorer(places[drawn])
