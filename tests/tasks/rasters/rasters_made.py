"""Small GeoTIFFs for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

PLACE = from_origin(500_000, 6_500_000, 10, 10)
CRS = "EPSG:32754"


def write_tif(path: Path, array: np.ndarray, **more: Any) -> Path:
    """(bands, H, W) as a GeoTIFF, on a grid of 10 m."""
    about = {"crs": CRS, "transform": PLACE} | more
    with rasterio.open(
        path, "w", driver="GTiff", height=array.shape[1], width=array.shape[2], count=len(array),
        dtype=array.dtype, **about,
    ) as dataset:  # fmt: skip
        dataset.write(array)
    return path
