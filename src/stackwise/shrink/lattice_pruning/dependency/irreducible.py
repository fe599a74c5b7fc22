"""Which dependency sets no others stand for, and the order of the sets by inclusion.

Closing the rows of D under intersection, with the full set on top, gives a lattice of up to 2^n
elements. It need not be listed: p is meet-irreducible in it where it has exactly one upper cover,

    meet_irreducible(p)  <=>  intersection of { D(q) : D(q) strictly contains D(p) }  !=  D(p)

with the full set as the intersection of none. Equal rows are one element: the first unit stands for
it, its twins are reducible.
"""

import torch
from torch import Tensor


def inclusion(sets: Tensor) -> Tensor:
    """(n, n) bool: whether D(q) contains D(p), at [q, p]."""
    ones = sets.float()
    return ones @ ones.T == ones.sum(1)  # counts are exact below 2^24


def twins(within: Tensor) -> Tensor:
    """(n,) int64: the first unit with the same set as each unit, by `inclusion`."""
    return (within & within.T).int().argmax(1)


def covers(sets: Tensor) -> Tensor:
    """(n, n) bool: the edges of the Hasse diagram. Unit q covers unit p, at [q, p], where D(q)
    strictly contains D(p) and no set lies between. Only the first of twins has edges.
    """
    within = inclusion(sets)
    first = twins(within) == torch.arange(len(sets))
    strict = within & ~within.T & first[:, None] & first[None, :]
    one = strict.float()
    return strict & (one @ one == 0)


def meet_irreducible(sets: Tensor, tolerance: float = 0.0) -> tuple[Tensor, Tensor]:
    """Which units are meet-irreducible, and by how much.

    Of fuzzy sets the intersection is the smallest value, and D(q) contains D(p) where it is nowhere
    smaller by more than `tolerance`:

        gap(p) = max_j ( min { D(q)[j] : q != p, D(q) >= D(p) - tolerance } - D(p)[j] )

    with, of units that contain each other, only the earlier ones among the q. A unit is irreducible
    where its gap is above the tolerance. For sets of 0 and 1 this is the criterion above.

    Args:
        sets: (n, n), bool or in [0, 1].

    Returns:
        (n,) bool, and (n,) float64 gaps in [0, 1].
    """
    if sets.dtype == torch.bool:
        within = inclusion(sets)
        strict = (within & ~within.T).float()
        lacking = strict.T @ (~sets).float()  # of the larger sets of p, how many lack j
        gap = ((lacking == 0) & ~sets).any(1).double()
        gap[twins(within) != torch.arange(len(sets))] = 0
        return gap > 0, gap
    gap = torch.stack([_gap(sets, unit, tolerance) for unit in range(len(sets))])
    return gap > tolerance, gap


def replaced(sets: Tensor, tolerance: float = 0.0) -> Tensor:
    """(n,) bool: for which units there is an earlier twin, or a larger set."""
    if sets.dtype == torch.bool:
        within = inclusion(sets)
        return (within & ~within.T).any(0) | (twins(within) != torch.arange(len(sets)))
    return torch.tensor([len(_larger(sets, unit, tolerance)) > 0 for unit in range(len(sets))])


def _gap(sets: Tensor, unit: int, tolerance: float) -> Tensor:
    meet = torch.cat([sets[_larger(sets, unit, tolerance)], torch.ones_like(sets[:1])]).amin(0)
    return (meet - sets[unit]).amax()


def _larger(sets: Tensor, unit: int, tolerance: float) -> Tensor:
    """The units whose fuzzy sets contain that of `unit`, without itself and its later twins."""
    own = sets[unit]
    (near,) = (sets[:, unit] >= own[unit] - tolerance).nonzero(
        as_tuple=True
    )  # most are out already
    larger = near[(sets[near] >= own - tolerance).all(1)]
    mutual = (own >= sets[larger] - tolerance).all(1)
    return larger[(larger != unit) & ~(mutual & (larger > unit))]


def one_upper_cover(sets: Tensor) -> Tensor:
    """(n,) bool: which units have exactly one edge upwards in the Hasse diagram, a stricter notion
    than irreducible in the lattice; of twins the first.
    """
    within = inclusion(sets)
    first = twins(within) == torch.arange(len(sets))
    return first & (covers(sets).sum(0) == 1)
