"""Crops of a picture, and the grid that they make again once they are tokens.

Crops are counted row by row, gh rows of gw: `cut` and `mosaic` agree on it for pixels and for
tokens.
"""

from torch import Tensor

from stackwise.errors import DataError


def cut(pictures: Tensor, gh: int, gw: int) -> Tensor:
    """(B, C, gh r, gw s) -> (B, gh gw, C, r, s).

    Raises:
        DataError: the pictures do not divide.
    """
    rows, channels, height, width = pictures.shape
    if height % gh or width % gw:
        raise DataError(f"a picture of {height} x {width} pixels does not divide into {gh} x {gw}")
    parts = pictures.reshape(rows, channels, gh, height // gh, gw, width // gw)
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def mosaic(crops: Tensor, gh: int, gw: int) -> Tensor:
    """(B, gh gw, p, q, C) -> (B, gh p, gw q, C): the crops' tokens at their places."""
    rows, _, p, q, size = crops.shape
    parts = crops.reshape(rows, gh, gw, p, q, size).transpose(2, 3)
    return parts.reshape(rows, gh * p, gw * q, size)
