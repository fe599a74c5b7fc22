"""Which grid of crops suits a picture's shape."""

from stackwise.errors import DataError


def best_grid(width: int, height: int, most: int = 4, side: int = 336) -> tuple[int, int]:
    """(gw, gh) of a picture, of all grids of 2 to `most` square crops of `side` pixels.

    The one with the largest effective area, min(the picture's area once it is fitted into the grid
    without stretching, its own area), and of equals the one that wastes least.

    Raises:
        DataError: the picture has no pixel, or fewer than two crops are allowed.
    """
    if width < 1 or height < 1:
        raise DataError(f"a picture of {width} x {height} pixels has no shape")
    if most < 2:
        raise DataError(f"{most} crop is no grid; give at least 2")
    grids = [
        (gw, gh) for gw in range(1, most + 1) for gh in range(1, most + 1) if 2 <= gw * gh <= most
    ]

    def worth(grid: tuple[int, int]) -> tuple[float, float]:
        scale = min(grid[0] * side / width, grid[1] * side / height)
        effective = min(scale * scale * width * height, float(width * height))
        return effective, effective - grid[0] * grid[1] * side * side

    return max(grids, key=worth)
