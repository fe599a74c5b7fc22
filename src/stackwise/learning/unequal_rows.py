"""How rows of different length go through a network: texts, series.

Rows are padded to a width of their own and go through among rows of that width, in blocks of one
fixed size: what a network answers to a row depends on nothing but the row, and short ones cost
little.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from stackwise.learning.outputs import through_network


class UnequalRows(Protocol):
    """Rows of different length.

    Attributes:
        widths: (n,) to what each row is padded.
    """

    @property
    def widths(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def padded(self, places: Sequence[int] | np.ndarray, width: int) -> Mapping[str, Any]:
        """What a network is called with for these rows, padded to a width."""
        ...


def through_unequal(
    network: nn.Module,
    rows: UnequalRows,
    reduce: Callable[[Tensor], np.ndarray],
    at_once: int,
    most: int | None = None,
) -> np.ndarray:
    """What `reduce` keeps of a network's outputs of all rows, in their order.

    Args:
        at_once: steps (tokens, moments) of a small block on its way through the network.
        most: rows of a small block at most; None for no bound.
    """
    widths = rows.widths
    found: np.ndarray | None = None
    for width in np.unique(widths):
        places = np.flatnonzero(widths == width)
        count = max(at_once // int(width), 1)
        count = count if most is None else min(count, most)
        values = through_network(network, rows.padded(places, int(width)), reduce, count)
        if found is None:
            found = np.empty((len(rows), *values.shape[1:]), dtype=values.dtype)
        found[places] = values
    assert found is not None  # there is a row
    return found
