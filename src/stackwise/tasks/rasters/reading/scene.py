"""A scene: bands of one grid, read strip by strip with what of it is valid.

    for top, rows in scene.strips():
        values, valid = scene.read(top, rows)      (bands, rows, width) float32, (rows, width) bool

A pixel is valid where every band has a finite number that is not the band's no-data value and no
mask leaves it out. What does not fit into memory is never read whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stackwise.errors import DataError
from stackwise.tasks.rasters.reading.grid import Grid

STRIP = 1 << 25
"""Numbers of a strip, all bands together: 128 MiB."""


class Scene(Protocol):
    """What a map is made of.

    Attributes:
        title: what it is called, as in errors. names: of the bands.
        block: rows that its file keeps together; strips are cut at such borders where they can be.
        table: whether it is a table of pixels, which lie nowhere.
    """

    title: str
    names: list[str]
    grid: Grid
    block: int
    table: bool

    def read(self, top: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """(bands, rows, width) float32 numbers, and (rows, width) which of them are valid."""
        ...


def strips(scene: Scene) -> Iterator[tuple[int, int]]:
    """The first row and the number of rows of each strip, in their order."""
    height, a_row = scene.grid.height, scene.grid.width * len(scene.names)
    rows = max(1, STRIP // max(a_row, 1))
    if rows >= scene.block:
        rows -= rows % scene.block
    elif scene.block * a_row <= 2 * STRIP:
        rows = scene.block
    for top in range(0, height, rows):
        yield top, min(rows, height - top)


def valid_strips(scene: Scene) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Strip by strip: its first row, the valid pixels as (n, bands), and (rows, width) which they
    are.
    """
    for top, rows in strips(scene):
        values, valid = scene.read(top, rows)
        yield top, values[:, valid].T, valid


@dataclass
class ArrayScene:
    """Bands in memory.

    Attributes:
        cube: (bands, height, width), maybe mapped from a file.
        nodata: a number that stands for none.
    """

    cube: np.ndarray
    grid: Grid
    names: list[str]
    title: str = "the cube"
    table: bool = False
    nodata: float | None = None
    block: int = 1

    def read(self, top: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """A strip."""
        values = self.cube[:, top : top + rows].astype(np.float32)
        valid = np.logical_and.reduce(np.isfinite(values))
        if self.nodata is not None:
            valid &= (values != np.float32(self.nodata)).all(0)
        return values, valid


@dataclass
class StackedScene:
    """The bands of several scenes of one grid, one behind the other.

    Raises:
        DataError: their grids differ; the sentence names the scene that does.
    """

    parts: Sequence[Scene]
    title: str

    def __post_init__(self) -> None:
        first, *others = self.parts
        for other in others:
            if unlike := first.grid.unlike(other.grid):
                raise DataError(f"{other.title} {unlike} as {first.title} has")
        self.grid = first.grid
        several = len(self.parts) == len({name for part in self.parts for name in part.names})
        self.names = [
            name if several and len(part.names) == 1 else f"{part.title} {name}"
            for part in self.parts
            for name in part.names
        ]
        self.block = max(part.block for part in self.parts)
        self.table = False

    def read(self, top: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """A strip."""
        read = [part.read(top, rows) for part in self.parts]
        return np.concatenate([values for values, _ in read]), np.logical_and.reduce(
            [valid for _, valid in read]
        )


@dataclass
class MaskedScene:
    """A scene of which a mask leaves pixels out.

    Attributes:
        mask: of one band on the scene's grid; 0 leaves a pixel out, and so does no data.
    """

    scene: Scene
    mask: Scene

    def __post_init__(self) -> None:
        if unlike := self.scene.grid.unlike(self.mask.grid):
            raise DataError(f"the mask {self.mask.title} {unlike} as {self.scene.title} has")
        self.title, self.names = self.scene.title, self.scene.names
        self.grid, self.block, self.table = self.scene.grid, self.scene.block, self.scene.table

    def read(self, top: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """A strip."""
        values, valid = self.scene.read(top, rows)
        kept, known = self.mask.read(top, rows)
        return values, valid & known & (kept[0] != 0)


def array_scene(
    array: np.ndarray,
    *,
    title: str = "the cube",
    nodata: float | None = None,
    bands: Sequence[int] | None = None,
) -> ArrayScene:
    """A scene of (bands, height, width) numbers, or of a table (pixels, bands).

    Args:
        nodata: a number that stands for none. bands: those that are taken, from 1; None for all.

    Raises:
        DataError: it has other dimensions, or holds no numbers.
    """
    if array.ndim not in (2, 3):
        raise DataError(
            f"{title} has {array.ndim} dimensions: give (bands, height, width), or a table "
            "(pixels, bands)"
        )
    if array.dtype.kind not in "uifb":
        raise DataError(f"{title} holds {array.dtype}, not numbers")
    table = array.ndim == 2
    cube = array.T[:, :, None] if table else array
    if 0 in cube.shape:
        raise DataError(f"{title} is empty: its shape is {array.shape}")
    cube = cube if bands is None else cube[chosen_bands(bands, len(cube), title)]
    numbers = range(1, len(cube) + 1) if bands is None else bands
    names = [f"band {number}" for number in numbers]
    return ArrayScene(cube, Grid(*cube.shape[1:]), names, title, table, nodata)


def chosen_bands(bands: Sequence[int], count: int, title: str) -> list[int]:
    """Places of bands that are named from 1.

    Raises:
        DataError: there is no such band.
    """
    for number in bands:
        if not isinstance(number, int) or not 1 <= number <= count:
            raise DataError(f"{title} has the bands 1 to {count}, not {number}")
    if not bands:
        raise DataError(f"no band of {title} is taken; leave out bands for all {count}")
    return [number - 1 for number in bands]
