"""Bring pictures of mixed sizes to one size.

The rule: the largest part in the middle that has the wanted shape is cut out, and brought to the
wanted size (bicubic, antialiased). A square of 64 from a photograph of 400 x 300 is its central
300 x 300. Nothing is stretched and nothing is padded; what lies at the ends of the longer side is
lost. Smaller pictures are enlarged in the same way.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from stackwise.errors import DataError

Size = tuple[int, int]
"""(height, width)."""
LARGEST_INFERRED = 64
"""A comparison on a CPU takes minutes at 64 pixels a side, and twelve times as long at 224."""
STEP = 8


def fitted(image: Image.Image, size: Size) -> Image.Image:
    """The middle of a picture ("L" or "RGB") at (height, width); itself where it has that size."""
    height, width = size
    if image.size == (width, height):
        return image
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    box = (max(left, 0.0), max(top, 0.0), min(left + scale * width, image.width),
           min(top + scale * height, image.height))  # fmt: skip
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)


def common_size(sizes: Sequence[Size]) -> tuple[Size, str]:
    """The size that pictures are brought to, where nobody says it, and a sentence about it.

    Theirs where all have the same and no side is above 64; else a square: the median of their
    shorter sides, at most 64, rounded down to a multiple of 8 that is at least 8.

    Args:
        sizes: (height, width) of each.
    """
    different = set(sizes)
    if len(different) == 1 and max(sizes[0]) <= LARGEST_INFERRED:
        return sizes[0], f"all pictures are {shown(sizes[0])} pixels"
    median = int(np.median([min(size) for size in sizes]))
    side = max(min(median, LARGEST_INFERRED) // STEP * STEP, STEP)
    had = (
        f"all pictures are {shown(sizes[0])} pixels"
        if len(different) == 1
        else f"pictures are from {shown(min(different, key=_area))} to "
        f"{shown(max(different, key=_area))} pixels"
    )
    return (side, side), (
        f"{had}: the middle of each is brought to {side} x {side} (--image-size says another)"
    )


def asked_size(size: int | Sequence[int]) -> Size:
    """A side, or (height, width), that was asked for.

    Raises:
        DataError: it is none.
    """
    sides = [size] if isinstance(size, int) else list(size)
    if len(sides) not in (1, 2):
        raise DataError(f"the image size is a side, or height and width, not {sides}")
    height, width = sides[0], sides[-1]
    if height < 1 or width < 1:
        raise DataError(f"the image size {size} is not at least 1 pixel")
    return int(height), int(width)


def shown(size: Size) -> str:
    """A size in a sentence, height first as in the shape of an array."""
    return f"{size[0]:,} x {size[1]:,}"


def _area(size: Size) -> int:
    return size[0] * size[1]
