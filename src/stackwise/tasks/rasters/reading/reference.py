"""What is known of a scene's units: a raster of classes on its grid, or polygons with a class each.

Polygons are a file of GeoJSON. Their coordinates are longitude and latitude, as RFC 7946 says, or
of the system that an older file names; where nobody knows where the scene lies, they are the
scene's own: columns and rows of its pixels.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stackwise.errors import DataError, nearest
from stackwise.marks import is_path
from stackwise.optional import needs
from stackwise.tasks.rasters.reading.grid import Grid, same_crs
from stackwise.tasks.rasters.reading.opening import open_layer
from stackwise.tasks.rasters.reading.scene import Scene, strips

POLYGONS = (".geojson", ".json")
FIELDS = ("class", "label", "unit", "name", "category", "code", "type")
"""Properties that say the class of a polygon where nobody names one, the first that is there."""
MOST_CLASSES = 1000
UNKNOWN = -1
LONLAT = "EPSG:4326"


@dataclass
class Reference:
    """What is known of the units.

    Attributes:
        codes: (height, width) int16, places in `classes`; -1 where nothing is known.
    """

    codes: np.ndarray
    classes: list[str]


def read_reference(
    source: Any, scene: Scene, *, field: str | None = None, nodata: float | None = None
) -> Reference:
    """Read a reference.

    Args:
        source: a raster or an array (height, width) of classes, or GeoJSON.
        field: the property of a polygon that says its class.
        nodata: the class of a raster that stands for none, besides what its file says.

    Raises:
        DataError: it lies on another grid, or holds no classes.
    """
    if is_path(source) and Path(os.fspath(source)).suffix.lower() in POLYGONS:
        found = _polygons(Path(os.fspath(source)), scene.grid, field)
    else:
        found = _raster(source, scene, nodata)
    if not found.classes:
        raise DataError(f"the reference {_named(source)} holds no class on this scene")
    return found


def _named(source: Any) -> str:
    return str(source) if is_path(source) else "array"


def _raster(source: Any, scene: Scene, nodata: float | None) -> Reference:
    opened = open_layer(source, nodata=nodata)
    if unlike := scene.grid.unlike(opened.grid):
        raise DataError(f"the reference {opened.title} {unlike} as {scene.title} has")
    seen: set[float] = set()
    for top, rows in strips(opened):
        values, valid = opened.read(top, rows)
        seen |= set(np.unique(values[0][valid]).tolist())
        if len(seen) > MOST_CLASSES:
            raise DataError(
                f"the reference {opened.title} holds more than {MOST_CLASSES} numbers: it is no "
                "map of classes"
            )
    seen -= {value for value in seen if value < 0}  # as maps of this library mark the unknown
    numbers = np.array(sorted(seen), dtype=np.float32)
    codes = np.full((scene.grid.height, scene.grid.width), UNKNOWN, np.int16)
    for top, rows in strips(opened):
        values, valid = opened.read(top, rows)
        place = np.searchsorted(numbers, values[0]).clip(max=max(len(numbers) - 1, 0))
        known = valid & (values[0] >= 0) if len(numbers) else np.zeros_like(valid)
        codes[top : top + rows][known] = place[known]
    return Reference(codes, [f"{number:g}" for number in numbers])


def _polygons(path: Path, grid: Grid, field: str | None) -> Reference:
    needs("rasterio", "polygons")
    from rasterio.errors import RasterioError
    from rasterio.features import rasterize
    from rasterio.transform import Affine

    shapes = list(_shapes(path, field))
    classes = sorted({name for _, name in shapes}, key=_order)
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{path} has {len(classes)} classes, more than {MOST_CLASSES}")
    place = {name: number for number, name in enumerate(classes)}
    transform = Affine(*grid.transform) if grid.transform else Affine.identity()
    geometries = _moved([geometry for geometry, _ in shapes], path, grid)
    try:
        drawn = rasterize(
            [(g, place[name] + 1) for g, (_, name) in zip(geometries, shapes, strict=True)],
            out_shape=(grid.height, grid.width), transform=transform, fill=0, dtype="int16",
        )  # fmt: skip
    except (RasterioError, ValueError) as error:
        raise DataError(f"{path} holds a polygon that cannot be drawn ({error})") from error
    if not (drawn > 0).any():
        raise DataError(
            f"no polygon of {path} lies on the scene; are their coordinates of another system?"
        )
    return Reference(drawn - 1, classes)


def _order(name: str) -> tuple[int, float, str]:
    """Numbers by their size, before words."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _shapes(path: Path, field: str | None) -> Iterator[tuple[dict[str, Any], str]]:
    """The polygons of a file, each with its class."""
    features = _document(path).get("features")
    if not isinstance(features, list) or not features:
        raise DataError(f"{path} is no GeoJSON with features")
    for number, feature in enumerate(features, start=1):
        properties = feature.get("properties") if isinstance(feature, dict) else None
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        if not isinstance(properties, dict) or not isinstance(geometry, dict):
            raise DataError(f"feature {number} of {path} has no geometry, or no properties")
        if geometry.get("type") not in ("Polygon", "MultiPolygon"):
            raise DataError(
                f"feature {number} of {path} is a {geometry.get('type')}, not a polygon"
            )
        name = field or next((one for one in FIELDS if one in properties), None)
        if name is None or properties.get(name) is None:
            wanted = field or "class"
            raise DataError(
                f"feature {number} of {path} has no property {wanted!r}; name the one of the "
                f"class with --reference-field.{nearest(wanted, map(str, properties))}"
            )
        yield geometry, str(properties[name])


def _document(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"there is no file {str(path)!r}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as GeoJSON ({error})") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is no GeoJSON with features")
    return found


def _moved(geometries: list[Any], path: Path, grid: Grid) -> list[Any]:
    """The geometries in the scene's coordinate system, where that is known."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError
    from rasterio.warp import transform_geom

    if grid.crs is None:
        return geometries
    told = _document(path).get("crs")
    name = told.get("properties", {}).get("name") if isinstance(told, dict) else None
    try:
        own = CRS.from_user_input(name or LONLAT).to_wkt()
    except CRSError as error:
        raise DataError(f"{path} names the coordinate system {name!r}, which nobody knows") from (
            error
        )
    if same_crs(own, grid.crs):
        return geometries
    return [transform_geom(own, grid.crs, geometry) for geometry in geometries]
