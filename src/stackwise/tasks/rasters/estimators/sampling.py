"""What a learner sees of a scene: the range of each band, and pixels drawn by the seed.

Two passes, strip by strip. Which pixels are drawn depends on the seed and on which are valid, and
not on where strips begin.
"""

from dataclasses import dataclass

import numpy as np

from stackwise.errors import DataError
from stackwise.tasks.rasters.reading.scene import Scene, valid_strips


@dataclass
class Sample:
    """Pixels of a scene.

    Attributes:
        pixels: (n, bands) float32, in the order of the scene.
        valid: how many of the scene are. low, high: (bands,) of all that are valid.
    """

    pixels: np.ndarray
    valid: int
    low: np.ndarray
    high: np.ndarray

    def cut(self, percent: float) -> tuple[np.ndarray, np.ndarray]:
        """(bands,) what is scaled to 0 and to 1: the range, or percentiles of the drawn pixels."""
        if percent == 0:
            return self.low, self.high
        low, high = np.percentile(self.pixels, [percent, 100 - percent], axis=0)
        return low.astype(np.float32), high.astype(np.float32)


def drawn(scene: Scene, most: int | None, seed: int) -> Sample:
    """Look at a scene and draw at most so many of its valid pixels; None for all.

    Raises:
        DataError: none is valid.
    """
    count, low, high = 0, np.float32(np.inf), np.float32(-np.inf)
    for _, pixels, _ in valid_strips(scene):
        if len(pixels):
            low = np.minimum(low, pixels.min(0))
            high = np.maximum(high, pixels.max(0))
            count += len(pixels)
    if not count:
        raise DataError(
            f"no pixel of {scene.title} is valid: all are no data, masked or not finite"
        )
    wanted = np.arange(count)
    if most is not None and count > most:
        rng = np.random.default_rng(seed)
        wanted = np.sort(rng.choice(count, most, replace=False, shuffle=False))
    taken, before = [], 0
    for _, pixels, _ in valid_strips(scene):
        here = wanted[
            np.searchsorted(wanted, before) : np.searchsorted(wanted, before + len(pixels))
        ]
        taken.append(pixels[here - before])
        before += len(pixels)
    return Sample(np.concatenate(taken), count, np.asarray(low), np.asarray(high))
