"""What a user names as a scene, opened: a file, several, a folder, an array, a named scene."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stackwise.errors import DataError, nearest
from stackwise.marks import ending, is_named, is_path
from stackwise.tasks.rasters.marks import ARRAYS, ENDINGS
from stackwise.tasks.rasters.reading.files import array_file, cube_in, file_scene
from stackwise.tasks.rasters.reading.scene import (
    MaskedScene,
    Scene,
    StackedScene,
    array_scene,
)


def open_scene(
    source: Any,
    *,
    mask: Any = None,
    nodata: float | None = None,
    bands: Sequence[int] | None = None,
) -> Scene:
    """Open a scene.

    Args:
        source: a file that rasterio reads, .npy or .npz; a folder of such, or a list, whose bands
            are stacked; a named scene; in Python an array (bands, height, width), or a table
            (pixels, bands).
        mask: a file, or an array: 0 leaves a pixel out.
        nodata: a number that stands for none. bands: those that are taken, from 1; None for all.

    Raises:
        DataError: one sentence about what cannot be used.
    """
    scene = _opened(source, nodata, bands)
    return scene if mask is None else MaskedScene(scene, open_layer(mask))


def open_layer(source: Any, *, nodata: float | None = None) -> Scene:
    """Open what has one band: a raster of which the first is taken, or an array (height, width), of
    a table (pixels,).

    Raises:
        DataError: one sentence about what cannot be used.
    """
    if is_path(source) and ending(source) not in ARRAYS:
        return _opened(source, nodata, [1])
    if is_path(source):
        path = Path(os.fspath(source))
        if not path.is_file():
            raise DataError(f"there is no file {str(path)!r}")
        array, title = cube_in(path), path.name
    else:
        array, title = np.asarray(source), "array"
    if array.ndim < 3:
        array = array[None] if array.ndim == 2 else array.reshape(1, -1, 1)
    return array_scene(array[:1], title=title, nodata=nodata)


def _opened(source: Any, nodata: float | None, bands: Sequence[int] | None) -> Scene:
    if isinstance(source, (list, tuple)) and source and all(is_path(one) for one in source):
        files = [Path(os.fspath(one)) for one in source]
        return _stacked(files, f"{len(files)} files", nodata, bands)
    if not is_path(source):
        if not hasattr(source, "__array__") and not isinstance(source, (list, tuple)):
            raise DataError(f"a {type(source).__name__} is no scene: give a file or an array")
        try:
            array = np.asarray(source)
        except ValueError as error:
            raise DataError(f"the bands differ in shape ({error})") from error
        return array_scene(array, nodata=nodata, bands=bands)
    path = Path(os.fspath(source))
    if path.is_dir():
        files = [one for one in sorted(path.iterdir(), key=_natural) if _is_scene(one)]
        if not files:
            raise DataError(f"the folder {path} holds no raster ({', '.join(ENDINGS[:3])}, ...)")
        return _stacked(files, path.name, nodata, bands)
    if path.is_file():
        return _file(path, nodata, bands)
    text = os.fspath(source)
    if is_named(text, "rasters"):
        from stackwise import data

        cube, names = data.raster(text)
        scene = array_scene(cube, title=text, nodata=nodata, bands=bands)
        numbers = range(1, len(names) + 1) if bands is None else bands
        scene.names = [names[number - 1] for number in numbers]
        return scene
    if re.match(r"^(/vsi\w+/|[A-Za-z0-9]+:[^\\/])", text):  # another place or a part, GDAL's way
        return file_scene(Path(text), nodata=nodata, bands=bands)
    from stackwise import data

    known = [entry.name for entry in data.names("rasters")]
    raise DataError(f"there is no file or scene {text!r}.{nearest(text, known)}")


def _stacked(
    files: Sequence[Path], title: str, nodata: float | None, bands: Sequence[int] | None
) -> Scene:
    for path in files:
        if not path.is_file():
            raise DataError(f"there is no file {str(path)!r}")
    if len(files) == 1:
        return _file(files[0], nodata, bands)
    if bands is not None:
        raise DataError(f"bands choose among those of one file; {title} holds {len(files)}")
    return StackedScene([_file(path, nodata, None) for path in files], title)


def _file(path: Path, nodata: float | None, bands: Sequence[int] | None) -> Scene:
    read = array_file if path.suffix.lower() in ARRAYS else file_scene
    return read(path, nodata=nodata, bands=bands)


def _is_scene(path: Path) -> bool:
    known = path.suffix.lower() in (*ENDINGS, *ARRAYS)
    return known and path.is_file() and not path.name.startswith(".")


def _natural(path: Path) -> list[Any]:
    """A key that puts B2 before B10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
