"""What a list of levels must be: one number of channels, and sides that halve, rounded up."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor
from torch.nn import functional

from stackwise.errors import ModelError


def check_levels(
    levels: Sequence[Tensor], channels: int | Sequence[int], *, count: int | None = None
) -> None:
    """Refuse a list that is no pyramid.

    Args:
        levels: (B, C_l, H_l, W_l) each, fine to coarse.
        channels: that each level must have, or of each. count: of levels, where it is fixed.

    Raises:
        ModelError: the number of levels, a level's channels or its size is not as it must be.
    """
    if count is not None and len(levels) != count:
        raise ModelError(f"this pyramid was built for {count} levels, got {len(levels)}")
    wanted = [channels] * len(levels) if isinstance(channels, int) else list(channels)
    if len(levels) != len(wanted):
        raise ModelError(f"this pyramid was built for {len(wanted)} levels, got {len(levels)}")
    for number, (level, width) in enumerate(zip(levels, wanted, strict=True)):
        if level.ndim != 4 or level.shape[1] != width:
            raise ModelError(
                f"level {number} must be (batch, {width}, height, width), got {tuple(level.shape)}"
            )
    for number, (fine, coarse) in enumerate(pairwise(levels)):
        height, width = halved(fine)
        if tuple(coarse.shape[-2:]) != (height, width):
            raise ModelError(
                f"level {number} is {fine.shape[-2]} x {fine.shape[-1]} but level {number + 1} is "
                f"{coarse.shape[-2]} x {coarse.shape[-1]}; expected {height} x {width}: each level "
                "must be half of the one before, rounded up"
            )


def halved(level: Tensor) -> tuple[int, int]:
    """(H, W) of the next coarser level."""
    height, width = level.shape[-2:]
    return (height + 1) // 2, (width + 1) // 2


def enlarged(level: Tensor, like: Tensor, *, corners: bool = False) -> Tensor:
    """A level at the size of a finer one, bilinear.

    Args:
        corners: the centres of corner pixels meet; else the corners of the maps do.
    """
    return functional.interpolate(
        level, size=like.shape[-2:], mode="bilinear", align_corners=corners
    )


def pooled(level: Tensor) -> Tensor:
    """A level at half its size, rounded up: the largest of 2 x 2; an odd edge is repeated first."""
    below, right = level.shape[-2] % 2, level.shape[-1] % 2
    if below or right:
        level = functional.pad(level, (0, right, 0, below), mode="replicate")
    return functional.max_pool2d(level, 2)
