"""Which connections stay, given which units matter.

    either   edges that touch a critical unit                     A[i, j] and (i or j critical)
    both     edges between critical units                         A[i, j] and i and j critical
    cover    edges of the Hasse diagram, and within an element of the order those that touch a
             critical unit
    score    the edges of largest S[i, j] (s_i + s_j), exactly as many as `sparsity` leaves

What acts on itself always stays. `units` is no rule of edges: the layer itself becomes smaller.
"""

from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from stackwise.catalog import Knob
from stackwise.errors import KnobError
from stackwise.shrink.lattice_pruning.dependency.lattice import Lattice

Keep = Literal["either", "both", "cover", "score", "units"]


def edge_mask(
    lattice: Lattice,
    /,
    *,
    keep: Annotated[
        Literal["either", "both", "cover", "score", "units"],
        Knob("edges at a critical unit, between two, of the Hasse diagram, by score; or units"),
    ] = "either",
    sparsity: Annotated[
        float | None,
        Knob("share of the connections that goes, of keep=score; of the units, of keep=units",
             ge=0, lt=1),
    ] = None,
) -> Tensor:  # fmt: skip
    """(n, n) bool: the connections that stay, of those that exist.

    Raises:
        KnobError: keep and sparsity do not go together, or ask for what cannot be.
    """
    check_keep(keep, sparsity, lattice)
    edges, critical = lattice.edges, lattice.critical
    if keep == "score":
        assert sparsity is not None
        return _best(lattice, sparsity)
    if not lattice.irreducible.any():
        mask = edges.clone()  # the lattice tells no edge from another
    elif keep == "cover":
        element = lattice.twins
        over = torch.zeros_like(edges)
        over[:] = lattice.covers[element][:, element]  # what holds of the first holds of its twins
        within = (element[:, None] == element[None]) & _touch(critical)
        mask = edges & (over | within)
    else:
        mask = edges & (_touch(critical) if keep == "either" else _both(critical))
    return mask.fill_diagonal_(True)


def check_keep(keep: str, sparsity: float | None, lattice: Lattice) -> None:
    """The rule and the sparsity go together, and with the form of the lattice.

    Raises:
        KnobError: they do not.
    """
    if keep == "score" and sparsity is None:
        raise KnobError("keep=score needs sparsity, the share of the connections that goes")
    if sparsity is not None and keep not in ("score", "units"):
        raise KnobError(
            f"keep={keep} keeps as many connections as the lattice has it; sparsity is of "
            "keep=score and keep=units"
        )
    if keep == "cover" and not lattice.crisp:
        raise KnobError(
            "keep=cover needs a Hasse diagram, and fuzzy sets have none; take adjacency=binary"
        )


def _touch(critical: Tensor) -> Tensor:
    return critical[:, None] | critical[None]


def _both(critical: Tensor) -> Tensor:
    return critical[:, None] & critical[None]


def _best(lattice: Lattice, sparsity: float) -> Tensor:
    """Exactly as many connections as `sparsity` leaves, the diagonal among them."""
    total, size = int(lattice.present.sum()), len(lattice)
    wanted = round((1 - sparsity) * total)
    edges = lattice.edges.clone().fill_diagonal_(False)
    if wanted < size:
        raise KnobError(
            f"sparsity {sparsity:g} keeps fewer of the {total:,} connections than the {size} "
            f"self-connections; at most {1 - size / total:.4g} is possible"
        )
    if wanted - size > int(edges.sum()):
        raise KnobError(
            f"sparsity {sparsity:g} keeps {wanted:,} of the {total:,} connections, and only "
            f"{int(edges.sum()) + size:,} are edges; raise sparsity, or lower the quantile or the "
            "threshold"
        )
    to, source = np.nonzero(edges.numpy())
    strength = lattice.influence.numpy()[to, source]
    score = lattice.score.numpy()
    ranked = np.lexsort((-strength, -strength * (score[to] + score[source])))
    best = ranked[: wanted - size]
    mask = torch.eye(size, dtype=torch.bool)
    mask[to[best], source[best]] = True
    return mask
