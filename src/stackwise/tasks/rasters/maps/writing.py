"""Write a map: GeoTIFF on the grid of its scene, .npy, or a picture with a legend.

units.tif               one band of bytes, 255 where nothing is known, with a colour for each unit;
                        the scene's CRS and transform
units.npy               (H, W) int32, -1 where nothing is known
units.png               the map and its legend
units_confidence.tif    1 on the centre of a pixel's unit, 0 halfway to the next (--confidence)
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.files import replacing
from stackwise.optional import needs
from stackwise.tasks.rasters.maps.majority import MASKED, filtered_strips
from stackwise.tasks.rasters.maps.making import unit_strips
from stackwise.tasks.rasters.maps.pictures import colours, map_picture
from stackwise.tasks.rasters.reading.grid import Grid
from stackwise.tasks.rasters.reading.opening import open_scene
from stackwise.tasks.rasters.reading.scene import Scene

TIFF, ARRAY, PICTURE = (".tif", ".tiff"), (".npy",), (".png",)
DRAWN = 2000
"""Pixels of the longer side of a map in a picture; of a larger one every so many are drawn."""


def write_predictions(
    path: Path | str,
    learner: Any,
    source: Any,
    *,
    nodata: Annotated[float | None, Knob("a number that stands for none")] = None,
    bands: Annotated[list[int] | None, Knob("bands that are read, from 1; none is all")] = None,
    confidence: Annotated[
        bool, Knob("also write how sure each pixel is, as NAME_confidence")
    ] = False,
    picture: Annotated[str | None, Knob("also draw the map with its legend, a .png")] = None,
) -> int:
    """Map a scene strip by strip into a file.

    Args:
        path: ends in .tif, .npy or .png. source: what `open_scene` takes.

    Returns:
        The pixels that have a unit.

    Raises:
        DataError: the scene cannot be used, or has other bands. StorageError: no room.
    """
    path = Path(path)
    if path.suffix.lower() not in (*TIFF, *ARRAY, *PICTURE):
        raise DataError(f"{path} must end in .tif, .npy or .png")
    if picture is not None and Path(picture).suffix.lower() not in PICTURE:
        raise DataError(f"{picture} must end in .png")
    drawn = Path(picture) if picture is not None else path
    draws = drawn.suffix.lower() in PICTURE
    scene: Scene = open_scene(source, nodata=nodata, bands=bands)
    units = len(learner.cluster_centers_)
    every = -(-max(scene.grid.height, scene.grid.width) // DRAWN)
    known, top, small = 0, 0, []
    beside = path.with_name(f"{path.stem}_confidence{path.suffix}")
    if confidence and path.suffix.lower() in PICTURE:
        raise DataError("--confidence writes numbers: let the map end in .tif or .npy")
    with contextlib.ExitStack() as files:
        write = files.enter_context(_map_file(path, scene.grid, units))
        sure = files.enter_context(_confidence_file(beside, scene.grid)) if confidence else None
        strips = unit_strips(learner, scene)
        if sure is not None:
            strips = _telling(strips, sure)
        size = 1 if scene.table else learner.filter_size
        for strip in filtered_strips((found for found, _ in strips), size, scene.grid.height):
            write(top, strip)
            known += int((strip != MASKED).sum())
            small += [strip[-top % every :: every, ::every]] if draws else []
            top += len(strip)
    if draws:
        names = getattr(learner, "unit_names_", None) or [f"unit {unit}" for unit in range(units)]
        with replacing(drawn) as place:
            map_picture(np.concatenate(small), names).savefig(
                place, dpi=144, format="png", bbox_inches="tight"
            )
    return known


def _telling(strips: Iterator[Any], write: Any) -> Iterator[Any]:
    """The strips, whose confidence is written as they pass."""
    top = 0
    for units, sure in strips:
        write(top, sure)
        top += len(units)
        yield units, sure


@contextlib.contextmanager
def _map_file(path: Path, grid: Grid, units: int) -> Iterator[Any]:
    if path.suffix.lower() in TIFF:
        with tiff_writer(
            path, grid, "uint8", MASKED, description="unit", colours=colours(units)
        ) as write:
            yield write
    elif path.suffix.lower() in ARRAY:
        with _array_writer(path, grid, np.int32) as array:

            def put(top: int, strip: np.ndarray) -> None:
                array(top, np.where(strip == MASKED, -1, strip.astype(np.int32)))

            yield put
    else:
        yield lambda top, strip: None


@contextlib.contextmanager
def _confidence_file(path: Path, grid: Grid) -> Iterator[Any]:
    if path.suffix.lower() in TIFF:
        with tiff_writer(path, grid, "float32", np.nan, description="confidence") as write:
            yield write
    else:
        with _array_writer(path, grid, np.float32) as write:
            yield write


@contextlib.contextmanager
def _array_writer(path: Path, grid: Grid, kind: Any) -> Iterator[Any]:
    with replacing(path) as place:
        array = np.lib.format.open_memmap(
            place, mode="w+", dtype=kind, shape=(grid.height, grid.width)
        )

        def write(top: int, strip: np.ndarray) -> None:
            array[top : top + len(strip)] = strip

        yield write
        array.flush()


@contextlib.contextmanager
def tiff_writer(
    path: Path,
    grid: Grid,
    kind: str,
    nodata: float,
    *,
    description: str,
    colours: Sequence[tuple[int, int, int]] = (),
) -> Iterator[Any]:
    """What writes strips, (top row, (rows, W)), into a GeoTIFF of one band.

    Raises:
        NotInstalled: rasterio is not here. StorageError: the file cannot be written.
    """
    needs("rasterio", "writing GeoTIFF")
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.transform import Affine
    from rasterio.windows import Window

    placed: dict[str, Any] = {}
    if grid.transform is not None:
        placed["transform"] = Affine(*grid.transform)
    if grid.crs is not None:
        placed["crs"] = rasterio.crs.CRS.from_wkt(grid.crs)
    with replacing(path) as place, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            place, "w", driver="GTiff", height=grid.height, width=grid.width, count=1, dtype=kind,
            nodata=nodata, compress="deflate", bigtiff="if_safer", **placed,
        ) as dataset:  # fmt: skip
            dataset.set_band_description(1, description)
            if colours:
                table = {unit: (*colour, 255) for unit, colour in enumerate(colours)}
                dataset.write_colormap(1, table | {MASKED: (0, 0, 0, 0)})

            def write(top: int, strip: np.ndarray) -> None:
                dataset.write(strip, 1, window=Window(0, top, grid.width, len(strip)))

            yield write
