"""What each sub-model costs and is worth, and the largest one within a budget.

Because the first units are in every sub-model, they learn the most: size order is quality order,
and the best sub-model of a budget is the largest that fits. Nothing is searched.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from stackwise.errors import KnobError
from stackwise.learning.measuring import milliseconds, multiply_adds
from stackwise.train.sortednet.extracting import extract
from stackwise.train.sortednet.reading import Axes, Spread
from stackwise.train.sortednet.spaces import AXES, SortedSpace, name_of
from stackwise.train.sortednet.statistics import Statistics, placed

COSTS = {"macs": "multiply_adds", "params": "parameters", "latency": "milliseconds"}
"""Columns of the table, by what a budget calls them."""
WORDS = {"macs": "multiply-adds", "params": "parameters", "latency": "ms"}
WITHIN = 0.04
"""Share of the whole network's score that the paper's sub-models lose at most."""
PASSES = 11
"""Passes of which a latency is the median."""


def table_of_submodels(
    network: nn.Module,
    space: SortedSpace,
    example: Mapping[str, Any] | None,
    *,
    judge: Callable[[nn.Module, dict[str, int]], float] | None = None,
    statistics: Statistics | None = None,
    latency: bool = True,
    spread: Spread = "first",
    told: Callable[[int], None] = lambda place: None,
) -> pd.DataFrame:
    """A row a sub-model: its sizes, `parameters`, `multiply_adds` and `milliseconds` of a pass over
    the example, and the `score` that `judge` gives the plain network of it.

    Args:
        example: what the network is called with, of one sample; None leaves out what needs it.
        told: called with the number of sub-models that are done.
    """
    axes = Axes.of(network, spread=spread)
    example = None if example is None else placed(example, axes.network)
    rows = []
    for place, sizes in enumerate(space.sizes):
        row: dict[str, Any] = {**sizes, "parameters": axes.parameters(sizes)}
        wants = (latency and example is not None) or judge is not None
        small = extract(network, sizes, statistics=statistics, spread=spread) if wants else None
        if example is not None:
            with axes.cut_to(sizes) as opened:
                row["multiply_adds"] = multiply_adds(opened, **example)
        if small is not None and latency and example is not None:
            row["milliseconds"] = milliseconds(small, example, passes=PASSES)
        if small is not None and judge is not None:
            row["score"] = judge(small, sizes)
        rows.append(row)
        told(place + 1)
    return pd.DataFrame(rows)


def pareto(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(n,) which points no other one beats: none cheaper is as good, none as cheap is better."""
    order = np.lexsort((-scores, costs))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], scores[order][:-1]]))
    found = np.empty(len(costs), dtype=bool)
    found[order] = scores[order] > best
    return found


def select(table: pd.DataFrame, **budget: float | None) -> dict[str, int]:
    """The largest sub-model within a budget.

    Args:
        table: of `table_of_submodels`. budget: `max_macs`, `max_params`, `max_latency` (ms); of
            several all hold, and the first says what is largest. Ties go to the better `score`.

    Raises:
        KnobError: no budget, or no sub-model within it.
    """
    limits = {name.removeprefix("max_"): most for name, most in budget.items() if most is not None}
    if not limits:
        raise KnobError("give a budget: max_macs, max_params or max_latency")
    fitting = table
    for name, most in limits.items():
        column = COSTS[name]
        if column not in table:
            raise KnobError(f"max_{name} needs to know what the model is called with: give data")
        fitting = fitting[fitting[column] <= most]
    if fitting.empty:
        name, most = next(iter(limits.items()))
        least = table[COSTS[name]].min()
        raise KnobError(
            f"no sub-model has at most {most:g} {WORDS[name]}; the smallest needs {least:.6g}"
            if least > most
            else f"no sub-model is within all of {', '.join(f'max_{one}' for one in limits)}"
        )
    by = [COSTS[next(iter(limits))], *(["score"] if "score" in table else [])]
    best = fitting.sort_values(by, kind="stable").iloc[-1]
    return {axis: int(best[axis]) for axis in table.columns if axis in AXES}


def smallest_within(table: pd.DataFrame, share: float, mode: str) -> dict[str, int]:
    """The smallest sub-model whose score is at most a share worse than the whole network's.

    Args:
        mode: "max" where more is better.
    """
    whole = float(table["score"].iloc[-1])
    sign = 1 if mode == "max" else -1
    near = table[sign * (table["score"] - whole) >= -share * abs(whole)]
    best = near.sort_values("parameters", kind="stable").iloc[0]
    return {axis: int(best[axis]) for axis in table.columns if axis in AXES}


def labels(table: pd.DataFrame) -> list[str]:
    """What each row is called."""
    axes = [axis for axis in table.columns if axis in AXES]
    return [name_of({axis: row[axis] for axis in axes}) for row in table[axes].to_dict("records")]
