"""A fine grid of tokens as stacks, each as long as the coarse one.

G is (gh p) x (gw q) fine tokens, K = gh gw stacks come of it, and each fine token is used once:

    spatial      X_k[a, b] = G[a gh + i, b gw + j],  k = i gw + j     dilated: neighbours of (a, b)
    grid         X_k       = crop k of G, whole
    sequential   X_k       = tokens k, k + K, k + 2K, ... of G row by row

Only in the first lie the K tokens at place (a, b) over the same pixels as coarse token (a, b). A
fine row of anything else (sound, a long series) is a grid of height 1.
"""

from typing import Literal

import torch
from torch import Tensor

from stackwise.errors import DataError
from stackwise.tasks.vqa.estimators.crops import mosaic

Sampling = Literal["spatial", "grid", "sequential"]


def sample_stacks(grid: Tensor, gh: int, gw: int, mode: Sampling = "spatial") -> Tensor:
    """(B, H, W, C) -> (gh gw, B, H/gh W/gw, C).

    Raises:
        DataError: the grid does not divide.
    """
    rows, height, width, size = grid.shape
    _check_divides(height, width, gh, gw)
    p, q = height // gh, width // gw
    if mode == "spatial":
        parts = grid.reshape(rows, p, gh, q, gw, size).permute(2, 4, 0, 1, 3, 5)
    elif mode == "grid":
        parts = grid.reshape(rows, gh, p, gw, q, size).permute(1, 3, 0, 2, 4, 5)
    else:
        parts = grid.reshape(rows, p * q, gh * gw, size).permute(2, 0, 1, 3)
    return parts.reshape(gh * gw, rows, p * q, size)


def unsample_stacks(
    stacks: Tensor, gh: int, gw: int, height: int, width: int, mode: Sampling = "spatial"
) -> Tensor:
    """(gh gw, B, l, C) -> (B, height, width, C): the inverse of `sample_stacks`."""
    _check_divides(height, width, gh, gw)
    p, q = height // gh, width // gw
    _, rows, _, size = stacks.shape
    if mode == "spatial":
        parts = stacks.reshape(gh, gw, rows, p, q, size).permute(2, 3, 0, 4, 1, 5)
    elif mode == "grid":
        parts = stacks.reshape(gh, gw, rows, p, q, size).permute(2, 0, 3, 1, 4, 5)
    else:
        parts = stacks.permute(1, 2, 0, 3)
    return parts.reshape(rows, height, width, size)


def stacks_of_crops(crops: Tensor, grids: Tensor, mode: Sampling = "spatial") -> Tensor:
    """The stacks of encoded crops, of pictures whose grids may differ.

    Args:
        crops: (B, most, p, q, C), the first gh gw of each picture in use.
        grids: (B, 2) int64, gh and gw of each.

    Returns:
        (most, B, p q, C); the stacks that a picture does not have are zero.
    """
    rows, most, p, q, size = crops.shape
    found = crops.new_zeros(most, rows, p * q, size)
    kinds = torch.unique(grids, dim=0)
    for gh, gw in kinds.tolist():
        count = gh * gw
        alike = (grids == grids.new_tensor([gh, gw])).all(1)
        chosen = crops if bool(alike.all()) else crops[alike]
        sampled = sample_stacks(mosaic(chosen[:, :count], gh, gw), gh, gw, mode)
        if len(kinds) == 1 and count == most:
            return sampled
        found[:count, alike] = sampled
    return found


def _check_divides(height: int, width: int, gh: int, gw: int) -> None:
    if gh < 1 or gw < 1 or height % gh or width % gw:
        raise DataError(f"grid {height} x {width} is not divisible by {gh} x {gw}")
