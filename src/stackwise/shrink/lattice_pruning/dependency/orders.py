"""From a graph with cycles to an order: the dependency set of each unit.

Rows are sets: D[i, j] is whether (or how strongly) unit i depends on unit j, and D[i, i] is 1. An
edge j -> i stands at A[i, j], as in torch's W_hh.
"""

from typing import Literal

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

Order = Literal["flow", "reach", "direct"]
Ranking = Literal["net", "greedy"]
Paths = Literal["min", "product"]


def dependency_sets(
    adjacency: Tensor,
    *,
    order: Order = "flow",
    strength: Tensor | None = None,
    ranking: Ranking = "net",
    paths: Paths = "min",
) -> Tensor:
    """D, from a graph.

    `flow` keeps the edges that run forward in `flow_ranks` and closes them: a partial order of all
    units. `reach` closes the graph as it is. `direct` closes nothing: a set is what a unit reads.

    Args:
        adjacency: (n, n), bool or 0/1 for sets, else in [0, 1] for fuzzy sets.
        strength: (n, n), what flows along the edges; None is the adjacency itself.
        paths: how strong a path of fuzzy edges is: its weakest edge, or the product of all.

    Returns:
        (n, n) bool for sets; float64 for fuzzy ones.
    """
    binary = adjacency.dtype == torch.bool or bool(((adjacency == 0) | (adjacency == 1)).all())
    kept = adjacency.clone()
    if order == "flow":
        weight = adjacency.double()
        ranks = flow_ranks(weight if strength is None else strength * weight, ranking)
        kept = kept * (ranks[None, :] < ranks[:, None])
    kept.fill_diagonal_(1)
    if binary:
        return kept.bool() if order == "direct" else transitive_closure(kept.bool())
    return kept.double() if order == "direct" else strongest_paths(kept.double(), paths)


def flow_ranks(flow: Tensor, ranking: Ranking = "net") -> Tensor:
    """The place of each unit in an order in which most of the flow runs forward, sources first.

    `net` sorts by what a unit gives less what it takes, sum_i F[i, u] - sum_j F[u, j]. `greedy`
    takes sinks from the end, sources from the front, and else the unit that gives most beyond what
    it takes of those that are left (Eades, Lin and Smyth 1993); it keeps more of the flow.

    Args:
        flow: (n, n) >= 0, from column to row; the diagonal does not count.

    Returns:
        (n,) int64, a permutation of 0 ... n - 1. Units that are equal stand in their own order.
    """
    between = flow.double().numpy() * (1 - np.eye(len(flow)))
    out, into = between.sum(0), between.sum(1)
    order = np.argsort(into - out, kind="stable") if ranking == "net" else _greedy(between)
    ranks = np.empty(len(flow), dtype=np.int64)
    ranks[order] = np.arange(len(flow))
    return torch.from_numpy(ranks)


def _greedy(between: np.ndarray) -> np.ndarray:
    """Units in the order of Eades, Lin and Smyth."""
    size = len(between)
    gives, takes = (between > 0).sum(0), (between > 0).sum(1)  # edges to and from those left
    net = between.sum(0) - between.sum(1)
    left = np.ones(size, dtype=bool)
    front: list[int] = []
    back: list[int] = []
    for _ in range(size):
        sinks, sources = left & (gives == 0), left & (takes == 0)
        if sinks.any():
            unit = int(
                np.flatnonzero(sinks)[-1]
            )  # from the end, so that equal ones keep their order
            back.append(unit)
        else:
            unit = int(np.argmax(sources if sources.any() else np.where(left, net, -np.inf)))
            front.append(unit)
        left[unit] = False
        gives -= between[unit] > 0
        takes -= between[:, unit] > 0
        net -= between[unit] - between[:, unit]
    return np.array(front + back[::-1], dtype=np.int64)


def components(adjacency: Tensor) -> Tensor:
    """(n,) int64: the strongly connected component of each unit, named by its first unit."""
    graph = csr_array((adjacency > 0).numpy())
    _, label = connected_components(graph, directed=True, connection="strong")
    _, first, place = np.unique(label, return_index=True, return_inverse=True)
    return torch.from_numpy(first[place].astype(np.int64))


def transitive_closure(edges: Tensor) -> Tensor:
    """R[i, j]: whether unit i can be reached from unit j. (n, n) bool, reflexive.

    Units that reach each other share a row, and the quotient has no cycle: its rows are joined from
    the sources on, 8 units a byte, in O(n^3 / 8) at most.
    """
    _, label = np.unique(components(edges).numpy(), return_inverse=True)
    count = int(label.max()) + 1
    quotient = np.zeros((count, count), dtype=bool)
    to, source = np.nonzero(edges.numpy())
    quotient[label[to], label[source]] = True
    np.fill_diagonal(quotient, True)
    rows = np.packbits(quotient, axis=1)
    for place in _sources_first(quotient):
        rows[place] = np.bitwise_or.reduce(rows[quotient[place]], axis=0)
    closed = np.unpackbits(rows, axis=1, count=count).astype(bool)
    return torch.from_numpy(closed[label][:, label])


def _sources_first(acyclic: np.ndarray) -> list[int]:
    """An order of the elements in which each stands behind all that it reads."""
    reads = acyclic.sum(1) - 1
    ready = list(np.flatnonzero(reads == 0))
    found = []
    while ready:
        element = ready.pop()
        found.append(int(element))
        after = np.flatnonzero(acyclic[:, element])
        after = after[after != element]
        reads[after] -= 1
        ready += list(after[reads[after] == 0])
    return found


def strongest_paths(strength: Tensor, paths: Paths = "min") -> Tensor:
    """R[i, j]: the strength of the strongest path from unit j to unit i, in O(n^3).

    R[i, j] <- max( R[i, j], R[i, k] o R[k, j] )  for each k,   o the minimum or the product

    Args:
        strength: (n, n) in [0, 1], its diagonal 1.
    """
    found = strength.double().clone().contiguous()
    for middle in range(len(found)):
        through = (found[:, middle, None].clone(), found[None, middle].clone())
        step = torch.minimum(*through) if paths == "min" else through[0] * through[1]
        torch.maximum(found, step, out=found)
    return found
