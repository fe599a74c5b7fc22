"""Where the pixels of a raster lie: its size, its transform and its coordinate system."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Transform = tuple[float, float, float, float, float, float]
SAME = 1e-6
"""How far two transforms may differ, as a share of a pixel over the whole grid."""


@dataclass(frozen=True)
class Grid:
    """The grid of a raster.

    Attributes:
        transform: (a, b, c, d, e, f) from pixels to coordinates, x = a column + b row + c and
            y = d column + e row + f; None where nobody knows.
        crs: the coordinate system as WKT; None where nobody knows.
    """

    height: int
    width: int
    transform: Transform | None = None
    crs: str | None = None

    @property
    def pixel_area(self) -> float | None:
        """Square kilometres of a pixel, where the coordinate system counts metres."""
        if self.transform is None or self.crs is None:
            return None
        from rasterio.crs import CRS

        crs = CRS.from_wkt(self.crs)
        if not crs.is_projected:
            return None
        a, b, _, d, e, _ = self.transform
        return abs(a * e - b * d) * crs.linear_units_factor[1] ** 2 / 1e6

    def unlike(self, other: "Grid") -> str | None:
        """How the other grid differs from this one, in words; None where it does not. What is not
        known of one of them does not differ.
        """
        if (self.height, self.width) != (other.height, other.width):
            return f"has {other.height} x {other.width} pixels, not {self.height} x {self.width}"
        if self.transform is not None and other.transform is not None:
            corners = np.array([[0, 0, 1], [self.width, 0, 1], [0, self.height, 1]], dtype=float)
            ours, theirs = (
                corners @ np.array(one).reshape(2, 3).T for one in (self.transform, other.transform)
            )
            pixel = max(abs(self.transform[0]), abs(self.transform[1]), 1e-300)
            if np.abs(ours - theirs).max() > SAME * pixel * max(self.height, self.width):
                return f"has the transform {_numbers(other)}, not {_numbers(self)}"
        if self.crs is not None and other.crs is not None and not same_crs(self.crs, other.crs):
            return (
                f"has the CRS {crs_name(other.crs)}, not {crs_name(self.crs)}: reproject it first"
            )
        return None

    def as_dict(self) -> dict[str, Any]:
        """The grid as JSON."""
        name = None if self.crs is None else crs_name(self.crs)
        transform = None if self.transform is None else list(self.transform)
        return {"height": self.height, "width": self.width, "transform": transform, "crs": name}


def same_crs(one: str, other: str) -> bool:
    """Whether two coordinate systems, as WKT, are the same."""
    from rasterio.crs import CRS

    return one == other or CRS.from_wkt(one) == CRS.from_wkt(other)


def crs_name(wkt: str) -> str:
    """What a coordinate system is called: EPSG:32754, or the name that it has."""
    from rasterio.crs import CRS

    crs = CRS.from_wkt(wkt)
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else wkt.partition('"')[2].partition('"')[0] or "unnamed"


def _numbers(grid: Grid) -> str:
    assert grid.transform is not None
    return "(" + ", ".join(f"{number:.10g}" for number in grid.transform) + ")"
