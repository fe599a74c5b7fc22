"""The map of a full scene, from file to file, against scikit-learn's PCA and MiniBatchKMeans.

- ours with `reduce=pca` does what the peer does, and the majority filter, strip by strip; the peer
  reads the scene whole with rasterio, scales it, fits PCA of 90 % of the variance and
  MiniBatchKMeans on all pixels, and writes its labels, without a filter;
- ours with the stacked autoencoders, small steps of the paper's or steps of 1,024 pixels, trains
  three networks besides;
- the majority filter against SciPy's generic_filter and against its quicker plain form;
- the map of a fitted mapper alone, without any fit.

Six units, ten bands of 16 bits, one thread of each unless the environment says otherwise.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from scipy.ndimage import generic_filter, uniform_filter
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from side_by_side import alternate, line, seconds_of
from stackwise.build.remote_sensing_sae import SpectralMapper
from stackwise.tasks.rasters.maps.majority import majority_filter
from stackwise.tasks.rasters.maps.writing import write_predictions
from stackwise.tasks.rasters.small import made_scene

SIZES = {"300 x 300": (300, 3), "600 x 600": (600, 3), "1,200 x 1,200": (1200, 1)}
UNITS, BANDS = 6, 10
WHOLE = (
    "ours has k-means of ten full starts on up to 100,000 pixels, where the peer has small "
    "batches, draws the map twice, for its page and for the file, and filters it; of a large scene "
    "that no longer weighs"
)
FILTER = "ours counts in whole numbers and leaves masked pixels out, the peer does neither"
TRAINS = "ours trains three networks, which PCA does not; the peer's step is in closed form"


def scene(place: Path, side: int) -> Path:
    """A scene of `side` x `side` pixels in a GeoTIFF of tiles."""
    spectra = np.random.default_rng(0).uniform(0.1, 0.9, (UNITS, BANDS))
    small, _ = made_scene(250, spectra, noise=0.02)
    times = -(-side // 250)
    cube = np.tile(small, (1, times, times))[:, :side, :side]
    path = place / f"{side}.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=BANDS, dtype="uint16",
        tiled=True, crs="EPSG:32754", transform=from_origin(0, 0, 10, 10),
    ) as dataset:  # fmt: skip
        dataset.write((10_000 * cube).clip(1, 65_535).astype("uint16"))
    return path


def ours(path: Path, **knobs: object) -> None:
    """Fit, map, write."""
    mapper = SpectralMapper(n_clusters=UNITS, **knobs).fit(path)
    write_predictions(path.with_name("ours.tif"), mapper, path)


def peer(path: Path) -> None:
    """The same by scikit-learn, the scene held whole."""
    with rasterio.open(path) as dataset:
        cube, profile = dataset.read(out_dtype="float32"), dataset.profile
    rows = cube.reshape(len(cube), -1).T
    low, high = rows.min(0), rows.max(0)
    codes = PCA(0.9).fit_transform((rows - low) / (high - low))
    labels = MiniBatchKMeans(UNITS, n_init=10, random_state=0).fit_predict(codes)
    about = profile | {"count": 1, "dtype": "uint8", "nodata": 255, "compress": "deflate"}
    with rasterio.open(path.with_name("peer.tif"), "w", **about) as dataset:
        dataset.write(labels.reshape(cube.shape[1:]).astype("uint8"), 1)


def fitted_peer(path: Path) -> "partial[None]":
    """The peer's map alone: both are fitted, pixels are scaled, projected and given a centre."""
    with rasterio.open(path) as dataset:
        rows = dataset.read(out_dtype="float32").reshape(BANDS, -1).T
    low, high = rows.min(0), rows.max(0)
    pca = PCA(0.9).fit((rows - low) / (high - low))
    means = MiniBatchKMeans(UNITS, n_init=10, random_state=0)
    means.fit(pca.transform((rows - low) / (high - low)))

    def give(rows: np.ndarray) -> None:
        means.predict(pca.transform((rows - low) / (high - low)))

    return partial(give, rows)


def plain_filter(labels: np.ndarray) -> np.ndarray:
    """A box filter a unit, and the largest."""
    shares = [uniform_filter((labels == unit).astype(np.float32), 7) for unit in range(UNITS)]
    found: np.ndarray = np.argmax(shares, axis=0)
    return found


def mode(window: np.ndarray) -> int:
    """What occurs most often."""
    return int(np.bincount(window.astype(int), minlength=UNITS).argmax())


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    name = "PCA + MiniBatchKMeans"
    with tempfile.TemporaryDirectory() as made, threadpool_limits(threads):
        for case, (side, repeats) in SIZES.items():
            path = scene(Path(made), side)
            found = alternate(partial(ours, path, reduce="pca"), partial(peer, path), repeats)
            line(f"scene to map, reduce=pca, {case}", *found, name, "s", "float32", threads,
                 WHOLE)  # fmt: skip
            fast = partial(ours, path, batch_size=1024, fit_pixels=20_000)
            found = seconds_of(fast), found[1]  # seconds long, beside the peer's of just now
            line(f"scene to map, stacked autoencoders, steps of 1,024 pixels, {case}", *found,
                 name, "s", "float32", threads, TRAINS)  # fmt: skip
            mapper = SpectralMapper(n_clusters=UNITS, reduce="pca").fit(path)
            with rasterio.open(path) as dataset:
                rows = dataset.read(out_dtype="float32").reshape(BANDS, -1).T
            found = alternate(partial(mapper.units_of, rows), fitted_peer(path), repeats)
            line(f"units of pixels, reduce=pca, {case}", *found, name, "s", "float32", threads,
                 "ours says how sure each pixel is, too")  # fmt: skip
        small = scene(Path(made), 100)
        found = seconds_of(partial(ours, small, fit_pixels=None)), seconds_of(partial(peer, small))
        line("scene to map, stacked autoencoders, the paper's steps, 100 x 100", *found, name, "s",
             "float32", threads, TRAINS)  # fmt: skip
    rng = np.random.default_rng(0)
    for side in (200, 600, 1800):
        labels = rng.integers(0, UNITS, (side, side)).astype(np.int32)
        turns = 1 if side > 600 else 5
        case = f"majority filter of 7 x 7, {side:,} x {side:,}"
        found = alternate(partial(majority_filter, labels, 7), partial(plain_filter, labels), turns)
        line(case, *found, "box filters of SciPy", "s", "int32", threads, FILTER)
    labels = rng.integers(0, UNITS, (100, 100)).astype(np.int32)
    found = alternate(
        partial(majority_filter, labels, 7), partial(generic_filter, labels, mode, size=7), 1
    )
    line("majority filter of 7 x 7, 100 x 100", *found, "generic_filter of SciPy", "s", "int32",
         threads)  # fmt: skip


if __name__ == "__main__":
    main()
