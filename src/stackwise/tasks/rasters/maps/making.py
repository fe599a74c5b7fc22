"""Make a map of a scene, strip by strip, from what says the unit of a pixel."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from stackwise.errors import DataError
from stackwise.tasks.rasters.maps.majority import MASKED, filtered_strips
from stackwise.tasks.rasters.reading.scene import Scene, valid_strips
from stackwise.training.session import count_aloud


class Maps(Protocol):
    """What makes maps: a fitted learner.

    Attributes:
        filter_size: of the majority filter. bands_: names of the bands that it learned from.
    """

    filter_size: int
    bands_: list[str]

    def units_of(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) the unit of each of (n, bands) pixels, and (n,) how sure it is, 0 to 1."""
        ...


def check_bands(learner: Maps, scene: Scene) -> None:
    """Refuse a scene of other bands.

    Raises:
        DataError: their number is another one.
    """
    if len(scene.names) != len(learner.bands_):
        raise DataError(
            f"{scene.title} has {len(scene.names)} bands, fitted on {len(learner.bands_)}"
        )


def unit_strips(
    learner: Maps, scene: Scene, what: str = "mapping"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Strip by strip the unfiltered map, (rows, W) uint8, and how sure each pixel is, (rows, W)
    float32; what is not valid is `MASKED` and NaN.
    """
    check_bands(learner, scene)
    tell = count_aloud(what, scene.grid.height)
    for _, pixels, valid in valid_strips(scene):
        units = np.full(valid.shape, MASKED, np.uint8)
        sure = np.full(valid.shape, np.nan, np.float32)
        if len(pixels):
            units[valid], sure[valid] = learner.units_of(pixels)
        tell(len(valid))
        yield units, sure


def map_strips(
    learner: Maps, scene: Scene, *, filtered: bool = True, what: str = "mapping"
) -> Iterator[np.ndarray]:
    """Strip by strip the map, (rows, W) uint8, after the learner's majority filter. A table of
    pixels has no neighbours and is not filtered.
    """
    strips = (units for units, _ in unit_strips(learner, scene, what))
    alone = scene.table or not filtered
    size = 1 if alone else learner.filter_size
    return filtered_strips(strips, size, scene.grid.height)


def whole_map(learner: Maps, scene: Scene, *, filtered: bool = True) -> np.ndarray:
    """(H, W) int32 units, -1 where a pixel is not valid."""
    units = np.concatenate(list(map_strips(learner, scene, filtered=filtered)))
    return np.where(units == MASKED, -1, units.astype(np.int32))
