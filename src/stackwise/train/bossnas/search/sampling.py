"""Which paths a step trains.

random   several different ones of a block's list
fair     as many as a layer has operations, each of which is used once at each layer
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from stackwise.errors import KnobError
from stackwise.train.bossnas.spaces.space import Path, Space

Sampling = Literal["random", "fair"]
MOST_PATHS = 4096
"""Paths of a block that are listed at most."""
Candidate = tuple[int, Path, int]
"""The state that a path begins in, the path, the state that it ends in."""


def candidates(
    space: Space, block: int, states: Sequence[int], sample: int | None, seed: int
) -> list[Candidate]:
    """The paths of a block from some states; of many, `sample` drawn at random.

    Raises:
        KnobError: they are too many to be rated one by one.
    """
    count = sum(space.path_count(block, state) for state in states)
    if count > MOST_PATHS:
        raise KnobError(
            f"block {block + 1} has {count:,} paths: rating enumerates at most {MOST_PATHS:,}; "
            "split the block"
        )
    every = [(s, path, end) for s in states for path, end in space.paths(block, s)]
    if sample is None or sample >= len(every):
        return every
    chosen = np.random.default_rng((seed, block)).permutation(len(every))[:sample]
    return [every[place] for place in sorted(chosen)]


def paths_of_a_step(
    space: Space, block: int, every: Sequence[Candidate], sampling: Sampling, count: int,
    *numbers: int,
) -> list[Candidate]:  # fmt: skip
    """The paths of one step; they depend on `numbers` (seed, epoch, place) and the block alone."""
    rng = np.random.default_rng((*numbers, block))
    if sampling == "random":
        return [every[i] for i in rng.permutation(len(every))[:count]]
    states = sorted({state for state, _, _ in every})
    state = states[int(rng.integers(len(states)))]
    ends = {path: end for one, path, end in every if one == state}
    orders = [rng.permutation(count) for _ in range(space.depths[block])]
    paths = [tuple(int(order[place]) for order in orders) for place in range(count)]
    return [(state, path, ends[path]) for path in paths]


def check_fair(space: Space, block: int, states: Sequence[int]) -> int:
    """How many paths fair sampling takes at a time: the operations of a layer.

    Raises:
        KnobError: layers differ in their number, or not every operation may follow every other.
    """
    counts = {len(space.operations(block, layer)) for layer in range(space.depths[block])}
    free = max(counts) ** space.depths[block]
    if len(counts) > 1 or any(len(space.paths(block, state)) != free for state in states):
        raise KnobError(
            f"sampling=fair uses each operation once a layer, and in block {block + 1} not every "
            "operation may follow every other: take sampling=random"
        )
    return counts.pop()
