"""Which block of the base stands at each place of the grown model.

A growth in depth is a list `order` of source blocks, one a place. The operator of the paper repeats
the whole list, and its ablations repeat parts of it:

    stack_order(6, 4)                    [0..5, 0..5, 0..5, 0..5]
    interleaved_order(8, 3)              [0, 0, 0, 1, 1, 1, ...]
    partial_order("12-3456*5-56", 6)     blocks 1 2, five times 3 4 5 6, then 5 6 (counted from 1)
"""

import itertools
import re
from collections.abc import Sequence

from stackwise.errors import KnobError


def stack_order(layers: int, factor: int) -> list[int]:
    """The blocks 0 .. layers - 1, `factor` times over.

    Raises:
        KnobError: the factor is no whole number of at least 1.
    """
    _check_factor(factor)
    return list(range(layers)) * factor


def interleaved_order(layers: int, factor: int) -> list[int]:
    """Each block `factor` times at its own place."""
    _check_factor(factor)
    return [index for index in range(layers) for _ in range(factor)]


def partial_order(text: str, layers: int) -> list[int]:
    """The order that `text` writes: runs of block numbers from 1 on, parted by "-".

    A run is blocks one after the other ("123", or "1..12" where there are more than nine), and
    "*k" repeats it k times.

    Raises:
        KnobError: the text is no such thing, or names a block that is not there.
    """
    order: list[int] = []
    for part in text.replace(" ", "").split("-"):
        found = re.fullmatch(r"(?:(\d+)\.\.(\d+)|(\d+))(?:\*(\d+))?", part)
        if found is None:
            raise KnobError(
                f"{part!r} is no run of blocks; write them as in 12-3456*5-56, or 1..12*2"
            )
        first, last, digits, times = found.groups()
        run = [int(digit) for digit in digits] if digits else list(range(int(first), int(last) + 1))
        if not run or (times and not int(times)):
            raise KnobError(f"{part!r} names no block; write runs upwards, as in 1..12*2")
        order += [index - 1 for index in run] * int(times or 1)
    check_order(order, layers)
    return order


def check_order(order: Sequence[int], layers: int) -> None:
    """Refuse an order that is empty or names a block that is not there."""
    if not order:
        raise KnobError("an order needs at least one block; it is empty")
    for index in order:
        if not 0 <= index < layers:
            raise KnobError(f"order names layer {index}, the model has {layers} (0..{layers - 1})")


def connection_rate(order: Sequence[int]) -> float:
    """The share of neighbours in the grown model that were neighbours in the base (R_c, 0 to 1)."""
    if len(order) < 2:
        return 1.0
    kept = sum(after == before + 1 for before, after in itertools.pairwise(order))
    return kept / (len(order) - 1)


def _check_factor(factor: int) -> None:
    if isinstance(factor, bool) or factor != int(factor) or factor < 1:
        raise KnobError(
            f"factor must be a whole number of at least 1, got {factor!r} (pass order= for other "
            "depths)"
        )
