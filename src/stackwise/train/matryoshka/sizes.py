"""The nested sizes of an embedding, and the cut to one of them.

halvings(2048)      (8, 16, 32, ..., 2048)      the paper's list for a ResNet-50
halvings(768)       (12, 24, 48, ..., 768)      and for a ViT-B or a BERT
"""

import functools
import operator
from collections.abc import Iterable, Sequence
from itertools import pairwise

from torch import Tensor
from torch.nn import functional

from stackwise.errors import DataError, KnobError

LEAST = 8
"""The least size that is taken by default: nesting below it costs the larger sizes accuracy."""


def halvings(size: int) -> tuple[int, ...]:
    """The sizes that come of halving `size` while it is even and the half at least 8, rising."""
    found = [size]
    while found[-1] % 2 == 0 and found[-1] // 2 >= LEAST:
        found.append(found[-1] // 2)
    return tuple(reversed(found))


def checked_sizes(dims: Sequence[int] | None, size: int) -> tuple[int, ...]:
    """The nested sizes of an embedding of `size` numbers; `halvings` where none are given.

    Raises:
        KnobError: they do not rise from at least 1 to `size`.
    """
    if dims is None:
        return halvings(size)
    given = [dims] if isinstance(dims, (int, float)) else list(dims)
    whole = [int(one) for one in given if isinstance(one, (int, float)) and int(one) == one]
    rising = all(a < b for a, b in pairwise(whole))
    if len(whole) < len(given) or not whole or not rising or whole[0] < 1 or whole[-1] != size:
        raise KnobError(
            f"dims must be increasing, positive and end at the embedding size {size}, got "
            f"{tuple(given)}"
        )
    return tuple(whole)


def checked_weights(weights: Sequence[float] | None, dims: Sequence[int]) -> tuple[float, ...]:
    """How much each size counts in the loss: c_m, by default 1 each.

    Raises:
        KnobError: not one for each size, or one is negative, or all are 0.
    """
    if weights is None:
        return (1.0,) * len(dims)
    given = [weights] if isinstance(weights, (int, float)) else list(weights)
    if len(given) != len(dims):
        raise KnobError(f"weights has {len(given)} entries for {len(dims)} dims")
    if not all(isinstance(one, (int, float)) and one >= 0 for one in given) or not sum(given) > 0:
        raise KnobError(f"weights must be numbers of at least 0, one above it, got {tuple(given)}")
    return tuple(float(one) for one in given)


def weighed_sum(weights: Sequence[float], losses: Iterable[Tensor]) -> Tensor:
    """sum_m c_m loss_m, of one scalar a size."""
    parts = [
        one if weight == 1 else weight * one for weight, one in zip(weights, losses, strict=True)
    ]
    return functools.reduce(operator.add, parts)


def checked_cut(dim: int | None, size: int) -> int:
    """The size to cut to; None is the whole embedding.

    Raises:
        DataError: the embedding has not so many numbers.
    """
    if dim is None:
        return size
    if not 1 <= dim <= size:
        raise DataError(f"dim must be from 1 to the embedding size {size}, got {dim}")
    return int(dim)


def cut(embeddings: Tensor, dim: int, *, normalise: bool = False) -> Tensor:
    """The first `dim` numbers of (..., d) embeddings; with `normalise` of length 1, brought to it
    behind the cut: a part of a unit vector is none.
    """
    kept = embeddings[..., :dim]
    return functional.normalize(kept, dim=-1) if normalise else kept
