"""Prune a recurrent layer by the order in which its units depend on each other.

Unit j acts on unit i through W_hh[i, j]. What is above a threshold is an edge j -> i; unit i then
depends on a set of units, its dependency set D(i), and these sets, closed under intersection, are a
lattice. A unit is *meet-irreducible* where no others stand for it:

    p is irreducible  <=>  the intersection of all D(q) that strictly contain D(p) is not D(p)

Connections that touch an irreducible unit of some centrality stay; the others are masked
(`keep=either`, `both`, `cover`, `score`), or units that are not irreducible are taken out and a
smaller dense layer is left (`keep=units`). Only the latter makes a step faster: kernels of
recurrent layers do not skip zeros.

A recurrent graph has cycles and no order by itself. `order=flow` drops the edges that run against
the flow and closes the rest, `reach` closes the graph as it is, so that units which reach each
other are one element, `direct` takes what a unit reads as its set.

Source: arXiv 2502.16525, of which the body and the code could not be read. So what stands there in
the abstract (a poset of neurons, meet-irreducible ones with centrality, a binary and a continuous
adjacency) is kept, and what differs, or may, is our reading: an edge is the largest influence over
the gates; the order is that of the flow; the centrality is the eigenvector's; lengths for closeness
and betweenness are 1 - log A, since -log A is zero for every edge of a binary graph; in the
continuous form influences at or below the threshold are zero (`quantile=0` keeps them all), and of
twins within the tolerance the first counts, as in the binary form.
"""

from stackwise.shrink.lattice_pruning.dependency.adjacency import adjacency_of
from stackwise.shrink.lattice_pruning.dependency.centrality import centrality_of
from stackwise.shrink.lattice_pruning.dependency.irreducible import covers, meet_irreducible
from stackwise.shrink.lattice_pruning.dependency.lattice import Lattice, lattice_of
from stackwise.shrink.lattice_pruning.dependency.orders import (
    dependency_sets,
    flow_ranks,
    strongest_paths,
    transitive_closure,
)
from stackwise.shrink.lattice_pruning.dependency.pictures import hasse_picture
from stackwise.shrink.lattice_pruning.edges import edge_mask
from stackwise.shrink.lattice_pruning.entry import lattice_pruning
from stackwise.shrink.lattice_pruning.fewer_units import FewerUnits
from stackwise.shrink.lattice_pruning.probing import dependency_lattice
from stackwise.shrink.lattice_pruning.units import influence, units_of

__all__ = [
    "FewerUnits", "Lattice", "adjacency_of", "centrality_of", "covers", "dependency_lattice",
    "dependency_sets", "edge_mask", "flow_ranks", "hasse_picture", "influence", "lattice_of",
    "lattice_pruning", "meet_irreducible", "strongest_paths", "transitive_closure", "units_of",
]  # fmt: skip
