"""Ratings of paths, and of architectures: r(a) = sum_k r_k(a_k), the least is best."""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from stackwise.errors import KnobError
from stackwise.train.bossnas.spaces.space import Architecture, Path, Space

if TYPE_CHECKING:
    import pandas as pd

Row = tuple[int, Path, int, float]
"""The state before a path, the path, the state behind it, its rating."""


@dataclass(frozen=True)
class Rated:
    """The ratings of a block's paths."""

    rows: tuple[Row, ...]

    @property
    def best(self) -> Row:
        """The path with the least rating; the first of equals."""
        return min(self.rows, key=lambda row: row[3])


class Ratings:
    """The ratings of all blocks.

    Attributes:
        blocks: a table a block.
    """

    def __init__(self, space: Space, blocks: list[Rated]) -> None:
        self.space, self.blocks = space, blocks
        self._known: list[dict[tuple[int, Path], float]] = [
            {(space.gate(place, state), path): value for state, path, _, value in one.rows}
            for place, one in enumerate(blocks)
        ]

    @property
    def best(self) -> Architecture:
        """The architecture with the least sum."""
        return next(iter(self.in_order()))[0]

    def rate(self, architecture: Iterable[Iterable[int]]) -> float:
        """The sum of an architecture's ratings.

        Raises:
            KnobError: it is none of the space, or one of its paths was not rated.
        """
        made = self.space.checked(architecture)
        states, total = self.space.states(made), 0.0
        for place, path in enumerate(made):
            key = (self.space.gate(place, states[place]), path)
            if key not in self._known[place]:
                raise KnobError(
                    f"the path {list(path)} of block {place + 1} was not rated where it stands in "
                    "this architecture; order=apart without rate_sample rates every path everywhere"
                )
            total += self._known[place][key]
        return total

    def in_order(self) -> Iterator[tuple[Architecture, float]]:
        """Every architecture whose paths are rated, the best first; none is listed before it is
        asked for.
        """
        nexts = self._nexts()
        least = self._least(nexts)
        ties = itertools.count()
        waiting: list[tuple[float, int, float, int, Architecture]] = []
        start = self.space.start
        if (0, start) in least:
            waiting = [(least[0, start], next(ties), 0.0, start, ())]
        while waiting:
            _, _, so_far, state, made = heapq.heappop(waiting)
            if len(made) == len(self.blocks):
                yield made, so_far
                continue
            for path, end, value in nexts(len(made), state):
                after = (len(made) + 1, end)
                if after in least:
                    total = so_far + value
                    guess = total + least[after]
                    heapq.heappush(waiting, (guess, next(ties), total, end, (*made, path)))

    def __len__(self) -> int:
        """How many architectures have ratings."""
        nexts = self._nexts()
        least = self._least(nexts)
        ways: dict[int, int] = {self.space.start: 1}
        for place in range(len(self.blocks)):
            then: dict[int, int] = {}
            for state, count in ways.items():
                for _, end, _ in nexts(place, state):
                    if (place + 1, end) in least:
                        then[end] = then.get(end, 0) + count
            ways = then
        return sum(ways.values())

    def drawn(self, generator: torch.Generator) -> Architecture:
        """A random architecture that has a rating: in each block an even choice among the paths
        that can be gone on from.
        """
        nexts = self._nexts()
        least = self._least(nexts)
        state, made = self.space.start, []
        for place in range(len(self.blocks)):
            open_ = [(p, end) for p, end, _ in nexts(place, state) if (place + 1, end) in least]
            path, state = open_[int(torch.randint(0, len(open_), (), generator=generator))]
            made.append(path)
        return tuple(made)

    def _nexts(self) -> Any:
        """(block, state) -> the rated paths there, with the state behind them."""
        kept: dict[tuple[int, int], list[tuple[Path, int, float]]] = {}

        def nexts(place: int, state: int) -> list[tuple[Path, int, float]]:
            if (place, state) not in kept:
                gate = self.space.gate(place, state)
                kept[place, state] = [
                    (path, end, value) for one, path, end, value in self.blocks[place].rows
                    if self.space.gate(place, one) == gate
                ]  # fmt: skip
            return kept[place, state]

        return nexts

    def _least(self, nexts: Any) -> dict[tuple[int, int], float]:
        """(block, state) -> the least sum of what is still to come."""
        ends = {(len(self.blocks) - 1, end) for _, _, end, _ in self.blocks[-1].rows}
        least = {(place + 1, end): 0.0 for place, end in ends}
        for place in reversed(range(len(self.blocks))):
            states = (
                {row[2] for row in self.blocks[place - 1].rows} if place else {self.space.start}
            )
            for state in states:
                sums = [
                    value + least[place + 1, end] for _, end, value in nexts(place, state)
                    if (place + 1, end) in least
                ]  # fmt: skip
                if sums:
                    least[place, state] = min(sums)
        return least

    def tables(self) -> "list[pd.DataFrame]":
        """A frame a block, the best path first: `path`, `operations`, `entered` and `rating`."""
        import pandas as pd

        found = []
        for place, one in enumerate(self.blocks):
            rows = [
                {"path": path, "operations": self._words(place, path), "entered": state,
                 "rating": value}
                for state, path, _, value in sorted(one.rows, key=lambda row: row[3])
            ]  # fmt: skip
            found.append(pd.DataFrame(rows))
        return found

    def _words(self, place: int, path: Path) -> str:
        return " ".join(
            self.space.operations(place, layer)[choice] for layer, choice in enumerate(path)
        )

    def as_json(self) -> list[list[Any]]:
        """The tables as lists."""
        return [[[s, list(p), e, v] for s, p, e, v in one.rows] for one in self.blocks]

    @classmethod
    def of_json(cls, space: Space, kept: Iterable[Iterable[Any]]) -> "Ratings":
        """The inverse of `as_json`."""
        blocks = [
            Rated(tuple((int(s), tuple(int(c) for c in p), int(e), float(v)) for s, p, e, v in one))
            for one in kept
        ]
        return cls(space, blocks)


def rank_report(ratings: Iterable[float], truth: Iterable[float]) -> Mapping[str, float]:
    """How well ratings, of which less is better, rank what truth scores, of which more is better.

    Returns:
        `kendall`, `spearman` and `pearson`, each with the sign that 1 is a perfect ranking.
    """
    import numpy as np
    from scipy import stats

    said, true = -np.asarray(list(ratings), float), np.asarray(list(truth), float)
    if len(said) != len(true) or len(said) < 3:
        raise KnobError(
            f"a ranking needs as many ratings as scores, 3 or more; got {len(said)} and {len(true)}"
        )
    if np.ptp(said) == 0 or np.ptp(true) == 0:
        return {"kendall": 0.0, "spearman": 0.0, "pearson": 0.0}
    return {
        "kendall": float(stats.kendalltau(said, true).statistic),
        "spearman": float(stats.spearmanr(said, true).statistic),
        "pearson": float(stats.pearsonr(said, true).statistic),
    }
