"""k-means on codes, and the number of units by the elbow of its inertia."""

from dataclasses import dataclass

import numpy as np

LOOKED_AT = range(2, 21)
"""Numbers of units that an elbow is looked for among."""
ELBOW_PIXELS = 20_000
"""Of the pixels, those on which it is looked for: the curve needs no more."""
STARTS = 10
"""Fits from different first centres, of which the best is kept."""
MANY = 1_000_000
"""Pixels above which k-means goes through them in small batches."""


@dataclass(frozen=True)
class Elbow:
    """The inertia of k-means by its number of units.

    Attributes:
        units: that were tried. inertia: of each. chosen: the one at the elbow.
    """

    units: list[int]
    inertia: list[float]
    chosen: int


def elbow(codes: np.ndarray, seed: int) -> Elbow:
    """Look for the number of units: where the curve of the inertia is farthest below the straight
    line from its first to its last point, both axes scaled to 0 to 1.

    Args:
        codes: (n, code).
    """
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(seed)
    few = codes if len(codes) <= ELBOW_PIXELS else codes[rng.permutation(len(codes))[:ELBOW_PIXELS]]
    different = len(np.unique(few, axis=0))
    few = few.astype(np.float64)  # k-means is faster so
    units = [k for k in LOOKED_AT if k <= different] or [min(different, 2)]
    inertia = [
        float(KMeans(k, n_init=1, random_state=seed).fit(few).inertia_) for k in units
    ]  # fmt: skip
    return Elbow(units, inertia, units[farthest_below(units, inertia)])


def farthest_below(units: list[int], inertia: list[float]) -> int:
    """The place of the point that is farthest below the chord; the first of equal ones."""
    x, y = np.array(units, dtype=float), np.array(inertia, dtype=float)
    if len(x) < 3 or y[0] <= y[-1]:
        return 0
    across = (x - x[0]) / (x[-1] - x[0])
    down = (y - y[-1]) / (y[0] - y[-1])
    return int(np.argmax(1 - across - down))


def centres_of(codes: np.ndarray, units: int, seed: int) -> np.ndarray:
    """(units, code) float32 centres of k-means."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    kind = KMeans if len(codes) <= MANY else MiniBatchKMeans
    made = kind(units, n_init=STARTS, random_state=seed).fit(codes.astype(np.float64))
    return np.asarray(made.cluster_centers_, dtype=np.float32)
