"""The side of the squares onto which pictures are brought, where nobody says it."""

from collections.abc import Sequence

import numpy as np

from stackwise.errors import DataError

LARGEST_INFERRED = 256
"""A comparison on a CPU takes minutes at 256 pixels a side, and ten times as long at 800."""
STEP = 32
SMALLEST = 32


def common_side(sizes: Sequence[tuple[int, int]]) -> tuple[int, str]:
    """The median of the longer sides, rounded up to a multiple of 32, at most 256; and a sentence.

    Args:
        sizes: (height, width) of each.
    """
    longer = [max(size) for size in sizes]
    median = int(np.median(longer))
    side = max(min(-(-median // STEP) * STEP, LARGEST_INFERRED), SMALLEST)
    shown = f"{min(longer):,}" if min(longer) == max(longer) else (
        f"{min(longer):,} to {max(longer):,}"
    )  # fmt: skip
    return side, (
        f"the longer sides of pictures are {shown} pixels: each is brought to {side} "
        "(--image-size says another)"
    )


def asked_side(side: int) -> int:
    """A side that was asked for.

    Raises:
        DataError: it is below 32.
    """
    if int(side) < SMALLEST:
        raise DataError(f"the image size {side} is below {SMALLEST} pixels")
    return int(side)
