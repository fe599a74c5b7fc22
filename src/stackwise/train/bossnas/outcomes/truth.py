"""Train networks one by one, and see how well ratings rank them.

truth     the score of each of some random architectures, trained alone, over seeds
ceiling   the rank correlation of the truth with itself, between two seeds: no rating beats it
opponents the number of parameters, and of multiply-adds: they rank too, and cost nothing
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from stackwise.learning.apart import FitsApart
from stackwise.train.bossnas.network import costs
from stackwise.train.bossnas.outcomes.retraining import joined_with, retrained
from stackwise.train.bossnas.search.ratings import Ratings, rank_report
from stackwise.train.bossnas.spaces.space import Architecture, Space

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(kw_only=True)
class Truths(FitsApart):
    """The fits of networks, one an architecture and seed.

    Attributes:
        model: the search. data: a loaded task. wanted: (architecture, seed) of each fit.
        part: by which they are scored. recipe: of `retrained`.
    """

    model: Any
    data: Any
    wanted: list[tuple[Architecture, int]]
    part: str
    recipe: dict[str, Any]
    batch_size: int | None = None
    kind: ClassVar[str] = "network"

    def one(self, place: int) -> float:
        """Train a network and score it; more is better."""
        architecture, seed = self.wanted[place]
        joined = joined_with(self.model, self.data, self.batch_size, seed)
        network = retrained(self.model, joined, architecture, seed=seed, watch=False, **self.recipe)
        metric = self.data.metric
        found = self.data.judge(self.model.with_network(network), self.part).scores[metric.name]
        return float(found if metric.mode == "max" else -found)


def different(space: Space | Ratings, count: int, seed: int) -> list[Architecture]:
    """So many random architectures of a space, or of those that have ratings, no two alike; fewer
    where there are not so many.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[Architecture, None] = {}
    for _ in range(50 * count):
        if len(found) >= min(count, len(space)):
            break
        found[space.drawn(generator)] = None
    return list(found)


def truth_of(truths: Truths, seeds: int) -> np.ndarray:
    """(networks, seeds) scores."""
    found = dict(truths.results())
    return np.array([found[place] for place in range(len(found))]).reshape(-1, seeds)


def agreement(truth: np.ndarray, rankings: Mapping[str, Sequence[float]]) -> "pd.DataFrame":
    """A row a ranking: `kendall`, `spearman` and `pearson` with the mean truth over seeds; 1 is a
    perfect ranking. The ceiling, between seeds, comes first where there are two.

    Args:
        rankings: by name, numbers of which less is better.
    """
    import pandas as pd

    rows = {}
    if truth.shape[1] > 1:
        rows["ceiling: one seed by another"] = rank_report(-truth[:, 0], truth[:, 1])
    for name, values in rankings.items():
        rows[name] = rank_report(values, truth.mean(1))
    return pd.DataFrame(rows).T.rename_axis("ranked by")


def opponents(
    space: Space, architectures: Sequence[Architecture], n_outputs: int
) -> dict[str, Any]:
    """Rankings that cost nothing: the larger, the better."""
    found = [costs(space, one, n_outputs) for one in architectures]
    return {
        "parameters": [-float(params) for params, _ in found],
        "multiply-adds": [-float(macs) for _, macs in found],
    }


def picture_of(ratings: Sequence[float], truth: np.ndarray, metric: str) -> "Figure":
    """Ratings against the scores of networks that were trained alone."""
    from matplotlib.figure import Figure

    from stackwise.figures import COLOURS

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(ratings, truth.mean(1), s=26, color=COLOURS[0], alpha=0.8)
    axes.set_xlabel("rating (less is better)")
    axes.set_ylabel(f"{metric}, trained alone")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
