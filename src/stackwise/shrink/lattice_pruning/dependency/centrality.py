"""How central each unit is in the graph of influences.

    strength      what a unit gives and takes:  sum_i A[i, u] + sum_j A[u, j],  itself left out
    eigenvector   c of the largest eigenvalue of A + A^T, by power iteration; its largest entry is 1
    closeness     how near the other units are, in either direction
    betweenness   of how many shortest paths between others a unit is part

A step along an edge has the length 1 - log A: 1 in a binary graph, and more the weaker the edge.
"""

from typing import Literal

import numpy as np
import torch
from scipy.sparse.csgraph import shortest_path
from torch import Tensor

Centrality = Literal["eigenvector", "strength", "closeness", "betweenness"]
ITERATIONS, SETTLED = 1000, 1e-12
SAME = 1e-9
"""Two paths are equally long where their lengths differ by less, relatively."""


def centrality_of(adjacency: Tensor, kind: Centrality = "eigenvector") -> Tensor:
    """(n,) float64 >= 0, of an (n, n) graph in [0, 1] whose edges go from column to row."""
    graph = adjacency.double()
    if kind == "strength":
        return graph.sum(0) + graph.sum(1) - 2 * graph.diagonal()
    if kind == "eigenvector":
        return _eigenvector(graph)
    lengths = _lengths(graph)
    return torch.from_numpy(_closeness(lengths) if kind == "closeness" else _betweenness(lengths))


def _eigenvector(graph: Tensor) -> Tensor:
    both = graph + graph.T
    found = torch.ones(len(both), dtype=torch.float64)
    for _ in range(ITERATIONS):
        following = both @ found
        following = following / following.max()
        if (following - found).abs().max() < SETTLED:
            return following
        found = following
    return found


def _lengths(graph: Tensor) -> np.ndarray:
    """(n, n), the length of the edge from row to column: infinite where there is none."""
    rows = np.ascontiguousarray(graph.T.numpy())  # scipy's searches go wrong on a view
    with np.errstate(divide="ignore"):
        lengths = 1 - np.log(rows)
    np.fill_diagonal(lengths, np.inf)
    return lengths


def _closeness(lengths: np.ndarray) -> np.ndarray:
    """(reached - 1) / (n - 1) * (reached - 1) / sum of distances (Wasserman and Faust)."""
    far = shortest_path(np.minimum(lengths, lengths.T), directed=False)
    reached = np.isfinite(far)
    total = np.where(reached, far, 0).sum(1)
    others = reached.sum(1) - 1
    size = max(len(far) - 1, 1)
    return np.divide(others**2, total * size, out=np.zeros(len(far)), where=total > 0)


def _betweenness(lengths: np.ndarray) -> np.ndarray:
    """Brandes 2001. From each source the shortest paths are counted outwards, then what depends on
    a unit is summed inwards:

        sigma[v] = sum over u before v of sigma[u]
        delta[u] = sum over v behind u of sigma[u] / sigma[v] (1 + delta[v])
    """
    far = shortest_path(lengths)
    found = np.zeros(len(far))
    for source, distance in enumerate(far):
        with np.errstate(invalid="ignore"):
            onward = distance[:, None] + lengths  # through u to v
            before = np.isfinite(onward) & (onward <= distance[None] * (1 + SAME))
        outwards = [int(v) for v in np.argsort(distance, kind="stable") if np.isfinite(distance[v])]
        sigma, delta = np.zeros(len(far)), np.zeros(len(far))
        sigma[source] = 1
        for unit in outwards[1:]:
            sigma[unit] = sigma[before[:, unit]].sum()
        for unit in reversed(outwards[1:]):
            previous = before[:, unit]
            delta[previous] += sigma[previous] / sigma[unit] * (1 + delta[unit])
            found[unit] += delta[unit]
    return found
