"""The size of a picture, and how a network that steps by several pixels takes one of any size."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from stackwise.errors import ModelError


def height_and_width(image_size: int | Sequence[int]) -> tuple[int, int]:
    """(H, W) of a side or of a pair.

    Raises:
        ModelError: it is neither, or a side is below 1.
    """
    sides = [image_size, image_size] if isinstance(image_size, int) else list(image_size)
    if len(sides) != 2 or min(sides) < 1:
        raise ModelError(f"image_size must be a side or (height, width), got {image_size}")
    return sides[0], sides[1]


def steps(side: int, stride: int) -> int:
    """How many strides cover a side: the rounded-up quotient."""
    return -(-side // stride)


def fill_up(pixels: Tensor, stride: int) -> Tensor:
    """Zeros at the right and below, until both sides are multiples of `stride`.

    (B, C, H, W) -> (B, C, H', W'). Normalised pixels have mean 0, so that the ground is their mean.
    """
    height, width = pixels.shape[-2:]
    below, right = -height % stride, -width % stride
    return functional.pad(pixels, (0, right, 0, below)) if below or right else pixels


def maps_of_stages(stem: Tensor, blocks: Iterable[Any]) -> list[Tensor]:
    """What stands behind the stem and behind the last block of each stage, for one list of blocks.

    Args:
        stem: (B, C, H, W). blocks: with `opens`, whether the block begins a stage.
    """
    maps = [stem]
    for block in blocks:
        y = block(maps[-1])
        if block.opens:
            maps.append(y)
        else:
            maps[-1] = y
    return maps
