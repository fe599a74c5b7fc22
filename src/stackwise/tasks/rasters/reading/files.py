"""Scenes in files: whatever rasterio reads, and cubes of NumPy."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stackwise.errors import DataError
from stackwise.optional import needs
from stackwise.tasks.rasters.reading.grid import Grid
from stackwise.tasks.rasters.reading.scene import ArrayScene, array_scene, chosen_bands

HELD = 1 << 25
"""Numbers of a file up to which it is read once and kept: 128 MiB."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An open dataset of rasterio.

    Raises:
        DataError: it cannot be read. NotInstalled: rasterio is not here.
    """
    needs("rasterio", f"reading {path.name}")
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as dataset:
                yield dataset
    except RasterioError as error:
        told = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as a raster ({told})") from error


@dataclass
class FileScene:
    """The bands of a file, read window by window.

    Attributes:
        places: of the bands, from 1. nodata: stands for no number besides what the file says.
    """

    path: Path
    title: str
    grid: Grid
    names: list[str]
    places: list[int]
    block: int
    nodata: float | None = None
    table: bool = False
    _kept: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)

    def read(self, top: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """A strip; a small file is read once."""
        numbers = self.grid.height * self.grid.width * len(self.places)
        if self._kept is None and numbers <= HELD:
            self._kept = self._read(0, self.grid.height)
        if self._kept is None:
            return self._read(top, rows)
        values, valid = self._kept
        return values[:, top : top + rows], valid[top : top + rows]

    def _read(self, top: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        from rasterio.windows import Window

        window = Window(0, top, self.grid.width, rows)
        with opened(self.path) as dataset:
            values = dataset.read(self.places, window=window, out_dtype="float32")
            valid = (dataset.read_masks(self.places, window=window) != 0).all(0)
        valid &= np.isfinite(values).all(0)
        if self.nodata is not None:
            valid &= (values != np.float32(self.nodata)).all(0)
        return values, valid

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: it reads the file itself."""
        return self.__dict__ | {"_kept": None}


def file_scene(
    path: Path, *, nodata: float | None = None, bands: Sequence[int] | None = None
) -> FileScene:
    """A scene of a file that rasterio reads.

    Raises:
        DataError: it cannot be read, or holds no bands of real numbers.
    """
    with opened(path) as dataset:
        if dataset.count == 0:
            inside = ", ".join(dataset.subdatasets[:3])
            raise DataError(f"{path} has no bands of its own; name one of {inside or 'none'}")
        strange = next((kind for kind in dataset.dtypes if "complex" in kind), None)
        if strange:
            raise DataError(f"{path} holds {strange}, not real numbers")
        numbers = range(1, dataset.count + 1)
        places = list(numbers)
        if bands is not None:
            places = [place + 1 for place in chosen_bands(bands, dataset.count, str(path))]
        told = dict(zip(numbers, dataset.descriptions, strict=True))
        names = [told[place] or f"band {place}" for place in places]
        block = max(rows for rows, _ in dataset.block_shapes)
        return FileScene(path, path.name, grid_of(dataset), names, places, block, nodata)


def grid_of(dataset: Any) -> Grid:
    """The grid of an open dataset."""
    placed = not dataset.transform.is_identity
    transform = tuple(dataset.transform)[:6] if placed else None
    crs = dataset.crs.to_wkt() if dataset.crs else None
    return Grid(dataset.height, dataset.width, transform, crs)


def cube_in(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped from the disk, or the only one of an .npz.

    Raises:
        DataError: it is none, or holds objects.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            if len(found.files) != 1:
                raise DataError(f"{path} holds the arrays {', '.join(found.files)}, not one cube")
            return np.asarray(found[found.files[0]])
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as an array ({error})") from error


def array_file(
    path: Path, *, nodata: float | None = None, bands: Sequence[int] | None = None
) -> ArrayScene:
    """A scene of a .npy or .npz file."""
    return array_scene(cube_in(path), title=path.name, nodata=nodata, bands=bands)
