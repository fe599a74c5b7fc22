"""The lattice of a graph of units: everything that pruning needs to know of it.

What the knobs of this module say is all that there is to choose; `lattice_of` is their signature.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import torch
from torch import Tensor

from stackwise.catalog import Knob
from stackwise.errors import KnobError
from stackwise.shrink.lattice_pruning.dependency.adjacency import adjacency_of
from stackwise.shrink.lattice_pruning.dependency.centrality import centrality_of
from stackwise.shrink.lattice_pruning.dependency.irreducible import (
    covers,
    inclusion,
    meet_irreducible,
    one_upper_cover,
    replaced,
    twins,
)
from stackwise.shrink.lattice_pruning.dependency.orders import components, dependency_sets


@dataclass(frozen=True)
class Lattice:
    """What is known of n units.

    Attributes:
        influence: (n, n) float64, of column on row. present: (n, n) bool, connections that exist.
        adjacency: (n, n) float64 in [0, 1]; 0 where there is no edge.
        sets: (n, n) bool, or float64 in the continuous form: the dependency sets, a row a unit.
        irreducible: (n,) bool. gap: (n,) float64, how far a unit is from reducible.
        centrality: (n,) float64. critical: (n,) bool, irreducible and central enough.
        replaced: (n,) bool, whether a twin or a larger set is there that stands for the unit.
        score: (n,) float64, the centrality times the gap, which is 0 or 1 in the binary form.
    """

    influence: Tensor
    present: Tensor
    adjacency: Tensor
    sets: Tensor
    irreducible: Tensor
    gap: Tensor
    centrality: Tensor
    critical: Tensor
    replaced: Tensor
    score: Tensor

    def __len__(self) -> int:
        return len(self.sets)

    @property
    def edges(self) -> Tensor:
        """(n, n) bool, the diagonal among them."""
        return self.adjacency > 0

    @property
    def crisp(self) -> bool:
        """Whether the sets are of 0 and 1."""
        return self.sets.dtype == torch.bool

    @cached_property
    def components(self) -> Tensor:
        """(n,) int64, by the first unit of each strongly connected component."""
        return components(self.adjacency)

    @cached_property
    def covers(self) -> Tensor:
        """(n, n) bool: unit q covers unit p, at [q, p]; see `irreducible.covers`."""
        return covers(self.sets)

    @cached_property
    def twins(self) -> Tensor:
        """(n,) int64: the first unit with the same dependency set."""
        return twins(inclusion(self.sets)) if self.crisp else torch.arange(len(self))

    @property
    def void(self) -> str | None:
        """Why the lattice says nothing of which unit matters, in one sentence; or None."""
        count, found = len(self), int(self.irreducible.sum())
        if count > 1 and self.crisp and len(self.twins.unique()) == 1:
            return (
                "all units depend on each other and are one element of the order: raise the "
                "quantile or the threshold, or take order=flow"
            )
        if found in (0, count):
            return f"{'every' if found else 'no'} unit is irreducible: the lattice prunes nothing"
        return None


def lattice_of(
    influence: Tensor,
    present: Tensor | None = None,
    /,
    *,
    adjacency: Annotated[
        Literal["binary", "continuous"], Knob("whether an edge is there, or how strong it is")
    ] = "binary",
    quantile: Annotated[
        float | None,
        Knob("influences above this quantile are edges; none: 0.5, or the threshold", ge=0, lt=1,
             search=(0.5, 0.95)),
    ] = None,
    threshold: Annotated[
        float | Literal["mean"] | None, Knob("an influence in place of the quantile", ge=0)
    ] = None,
    normalise: Annotated[
        Literal["none", "max", "row"],
        Knob("divide influences by the largest, or by the largest that acts on a unit"),
    ] = "none",
    order: Annotated[
        Literal["flow", "reach", "direct"], Knob("how a graph with cycles becomes an order")
    ] = "flow",
    ranking: Annotated[
        Literal["net", "greedy"],
        Knob("of order=flow: units by what they give less what they take, or greedily"),
    ] = "net",
    paths: Annotated[
        Literal["min", "product"], Knob("how strong a path is, in the continuous form")
    ] = "min",
    notion: Annotated[
        Literal["lattice", "poset"], Knob("one upper cover in the lattice, or in the order itself")
    ] = "lattice",
    tolerance: Annotated[
        float | None,
        Knob("gap up to which a unit is reducible, in the continuous form; none: 0.1", ge=0, lt=1),
    ] = None,
    centrality: Annotated[
        Literal["eigenvector", "strength", "closeness", "betweenness"],
        Knob("what makes a unit central"),
    ] = "eigenvector",
    central: Annotated[
        float, Knob("quantile of centrality that irreducible units must reach to count", ge=0, lt=1)
    ] = 0.0,
) -> Lattice:  # fmt: skip
    """Find the dependency lattice of influences.

    Args:
        influence: (n, n) >= 0, S[i, j] is how much unit j at one step acts on unit i at the next:
            |W_hh| of a plain layer.
        present: (n, n) bool, the connections that the network has; None is all.

    Raises:
        KnobError: knobs that do not go together. ModelError: influences that are no numbers.
    """
    continuous = adjacency == "continuous"
    if not continuous and (paths != "min" or tolerance is not None):
        raise KnobError("paths and tolerance are of adjacency=continuous; leave them out")
    if continuous and notion == "poset":
        raise KnobError(
            "notion=poset counts covers of an order, and fuzzy sets within a tolerance have none; "
            "take notion=lattice or adjacency=binary"
        )
    if continuous and order == "direct" and paths != "min":
        raise KnobError("order=direct follows no path; leave paths out")
    if order != "flow" and ranking != "net":
        raise KnobError(f"ranking is of order=flow, not of order={order}; leave it out")
    graph = adjacency_of(
        influence, kind=adjacency, quantile=quantile, threshold=threshold, normalise=normalise,
        present=present,
    )  # fmt: skip
    strength = influence.detach().double().cpu()
    sets = dependency_sets(
        graph.double() if continuous else graph > 0, order=order, strength=strength,
        ranking=ranking, paths=paths,
    )  # fmt: skip
    width = (0.1 if tolerance is None else tolerance) if continuous else 0.0
    irreducible, gap = meet_irreducible(sets.double() if continuous else sets, width)
    if notion == "poset":
        irreducible = one_upper_cover(sets)
        gap = irreducible.double()
    weight = centrality_of(graph, centrality)
    least = weight.quantile(central)
    return Lattice(
        influence=strength,
        present=torch.ones_like(graph, dtype=torch.bool) if present is None else present.cpu(),
        adjacency=graph,
        sets=sets.double() if continuous else sets,
        irreducible=irreducible,
        gap=gap,
        centrality=weight,
        critical=irreducible & (weight >= least),
        replaced=replaced(sets.double() if continuous else sets, width),
        score=torch.where(weight >= least, weight * gap, torch.zeros_like(gap)),
    )
