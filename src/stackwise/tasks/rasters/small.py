"""Scenes that are made, whose units are known."""

from typing import Any

import numpy as np


def made_scene(
    side: int,
    spectra: np.ndarray,
    *,
    noise: float = 0.01,
    bend: float = 1.0,
    smooth: float = 0.1,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """A scene of units with smooth borders, lit unevenly.

        value = (light * spectrum of the unit) ^ bend + noise * normal    light = 0.7 to 1.3

    Args:
        side: pixels of its height and its width.
        spectra: (units, bands), above 0.
        bend: the power of each value. smooth: reach of the fields, as a share of the side.

    Returns:
        (bands, side, side) float32 and (side, side) the unit of each pixel.
    """
    import scipy.ndimage

    gaussian_filter: Any = vars(scipy.ndimage)["gaussian_filter"]  # unknown to type checkers

    rng = np.random.default_rng(seed)

    def field() -> np.ndarray:
        found = gaussian_filter(rng.normal(size=(side, side)), smooth * side, mode="wrap")
        return (found - found.mean()) / found.std()

    units = np.argmax([field() for _ in spectra], axis=0)
    light = 1 + 0.3 * np.tanh(field())
    cube = (light[..., None] * spectra[units]) ** bend
    cube = cube + noise * rng.normal(size=cube.shape)
    return np.moveaxis(cube, -1, 0).astype(np.float32), units


def small_scene() -> tuple[np.ndarray, np.ndarray]:
    """24 x 24 pixels of three units in four bands."""
    spectra = np.array([[0.1, 0.2, 0.3, 0.8], [0.5, 0.5, 0.4, 0.3], [0.2, 0.1, 0.05, 0.05]])
    return made_scene(24, spectra, smooth=0.2)
