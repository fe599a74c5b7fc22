"""What every learner that maps a scene shares: pixels are drawn and scaled, a method finds codes,
k-means parts them into units, and the map is made strip by strip and filtered.

    mapper = SpectralMapper(n_clusters=6).fit(cube)        (bands, height, width), a file, a task
    mapper.labels_                                         (height, width), -1 where nothing is
    mapper.predict("other.tif")                            the same units on another scene
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from PIL import Image
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.file_bounds import within
from stackwise.files import read_tensors, replacing, write_tensors
from stackwise.layers.arguments import place_of
from stackwise.learning.kept_network import network_class
from stackwise.learning.learner import Learner
from stackwise.tasks.rasters.estimators.clustering import Elbow, centres_of, elbow
from stackwise.tasks.rasters.estimators.pixel_network import (
    Applied,
    PixelCodes,
    PixelUnits,
    through,
)
from stackwise.tasks.rasters.estimators.sampling import Sample, drawn
from stackwise.tasks.rasters.maps.majority import MASKED, check_size
from stackwise.tasks.rasters.maps.making import check_bands, map_strips, whole_map
from stackwise.tasks.rasters.maps.scoring import internal_scores
from stackwise.tasks.rasters.reading.opening import open_scene
from stackwise.tasks.rasters.reading.scene import Scene, valid_strips

KEPT = 1 << 24
"""Pixels of a scene up to which its map stays in `labels_`."""
OVERVIEW = 480
"""Pixels of the longer side of the small map that a run keeps for its page."""


def mapping_knobs(
    *,
    n_clusters: Annotated[
        int | Literal["elbow"],
        Knob("units of the map; elbow looks for their number, 2 to 20", ge=2, le=254),
    ] = "elbow",
    filter_size: Annotated[
        int, Knob("side of the majority filter's window, odd; 1 is none", ge=1, le=255)
    ] = 7,
    clip: Annotated[
        float,
        Knob(
            "per cent of the pixels beyond either end of a band's scale, which are cut", ge=0, lt=50
        ),
    ] = 0.0,
    fit_pixels: Annotated[
        int | None, Knob("pixels that are learned from, drawn by the seed; none is all", ge=10)
    ] = 100_000,
) -> None:
    """How a scene becomes a map; see `stackwise.catalog.learner`."""


def seed_knob(*, random_state: Annotated[int | None, Knob("the seed", ge=0)] = 0) -> None:
    """The seed of a mapper that trains no network."""


class Mapper(Learner):
    """A learner that parts the pixels of a scene into units. A method gives `learn`.

    Fitted attributes, besides those of `Learner`:
        labels_: (H, W) int32 the map, -1 where a pixel is not valid; None of a scene of more than
            16 million pixels, which is mapped into a file. codes_: (n, code) of the pixels that
            were learned from. cluster_centers_: (units, code). elbow_: an `Elbow`, or None.
        band_min_, band_max_: (bands,) what was scaled to 0 and 1. bands_: their names.
        areas_: (units,) pixels of each unit on the map. pixel_area_: km2 of one, or None.
        spectra_: (units, bands) means of the pixels that were learned from, before the filter.
        spreads_: their standard deviations.
        internal_: scores without a reference, in the space of the scaled bands.
        reconstruction_error_: mean squared error of the scaled bands, where codes lead back.
    """

    tasks: ClassVar[tuple[str, ...]] = ("rasters",)
    fitted: ClassVar[str] = "network_"
    shared_knobs: ClassVar[tuple[Any, ...]] = (mapping_knobs, seed_knob)
    least_bands: ClassVar[int] = 1

    network_: PixelUnits

    def learn(self, scaled: np.ndarray) -> nn.Module:
        """The encoder, (B, bands) -> (B, code), that is found on (n, bands) pixels of 0 to 1. Its
        class keeps its arguments, and its `decode` leads back, where one does.
        """
        raise NotImplementedError

    def fit(self, X: Any, y: Any = None, *, mask: Any = None) -> Self:
        """Find units in a scene and map it.

        Args:
            X: (bands, height, width) numbers, a file that rasterio reads, a loaded task, or a table
                (pixels, bands). y: not used: units are found without a truth.
            mask: (height, width), false where a pixel is left out.

        Raises:
            KnobError: a knob is out of range. DataError: the scene cannot be used.
        """
        self._begin()
        check_size(self.filter_size)
        scene = _scene_of(X, mask)
        if len(scene.names) < self.least_bands:
            raise DataError(f"{scene.title} has 1 band; nothing to reduce")
        sample = drawn(scene, self.fit_pixels, self.seed_)
        self.bands_ = list(scene.names)
        self.valid_ = sample.valid
        self._note(scene, sample)
        low, high = sample.cut(self.clip)
        self.band_min_, self.band_max_ = low, high
        bare = PixelCodes(nn.Identity(), *map(torch.from_numpy, (low, high)), cut=self.clip > 0)
        scaled = bare.scaled(torch.from_numpy(sample.pixels)).numpy()
        bare.encoder = self.learn(scaled).cpu().eval()
        self.codes_ = through(bare, sample.pixels)
        self._part(bare, scaled)
        self._describe(sample.pixels, scaled)
        self._map(scene)
        return self

    def _note(self, scene: Scene, sample: Sample) -> None:
        """Say what of the scene was not used."""
        whole = scene.grid.height * scene.grid.width
        if sample.valid < whole:
            share = 100 * (1 - sample.valid / whole)
            self.notes_.append(f"{share:.3g} % of the pixels are no data, masked or not finite")
        if len(sample.pixels) < sample.valid:
            self.notes_.append(
                f"units were learned from {len(sample.pixels):,} of {sample.valid:,} pixels"
            )
        flat = [name for name, a, b in zip(scene.names, sample.low, sample.high) if a == b]
        if flat:
            self.notes_.append(f"{', '.join(flat)} is constant and tells nothing")

    def _part(self, codes: PixelCodes, scaled: np.ndarray) -> None:
        """Find the centres, in the order of their pixels' mean over all bands, so that a repetition
        numbers units alike.
        """
        self.elbow_: Elbow | None = None
        units = self.n_clusters
        if units == "elbow":
            self.elbow_ = elbow(self.codes_, self.seed_)
            units = self.elbow_.chosen
        different = len(np.unique(self.codes_[:100_000], axis=0))
        if len(self.codes_) < units or different < units:
            few = min(len(self.codes_), different)
            raise DataError(f"n_clusters={units} is more than the {few} different valid pixels")
        centres = centres_of(self.codes_, units, self.seed_)
        near = PixelUnits(Applied(lambda x: x), torch.from_numpy(centres))
        found = through(near, self.codes_)[:, 0].astype(int)
        bright = [scaled[found == unit].mean() if (found == unit).any() else 0.0
                  for unit in range(units)]  # fmt: skip
        order = np.argsort(bright, kind="stable")
        self.cluster_centers_ = centres[order]
        self.network_ = PixelUnits(codes, torch.from_numpy(self.cluster_centers_)).eval()

    def _describe(self, pixels: np.ndarray, scaled: np.ndarray) -> None:
        """What the units look like, on the pixels that were learned from."""
        units, _ = self.units_of(pixels)
        count = len(self.cluster_centers_)
        parts = [pixels[units == unit].astype(np.float64) for unit in range(count)]
        nothing = np.full(pixels.shape[1], np.nan)
        self.spectra_ = np.array([part.mean(0) if len(part) else nothing for part in parts])
        self.spreads_ = np.array([part.std(0) if len(part) else nothing for part in parts])
        few = np.random.default_rng(self.seed_).permutation(len(scaled))[:50_000]
        self.internal_ = internal_scores(scaled[few], units[few], self.seed_)
        self.reconstruction_error_: float | None = None
        decode = getattr(self.network_.codes.encoder, "decode", None)
        if decode is not None:
            back = through(Applied(decode), self.codes_)
            self.reconstruction_error_ = float(np.mean((back - scaled) ** 2))

    def _map(self, scene: Scene) -> None:
        """Map the scene: keep its map where it is not too large, a small one, and the areas."""
        count = len(self.cluster_centers_)
        areas = np.zeros(256, np.int64)
        every = -(-max(scene.grid.height, scene.grid.width) // OVERVIEW)
        whole = scene.grid.height * scene.grid.width <= KEPT
        kept, small, top = [], [], 0
        for strip in map_strips(self, scene):
            areas += np.bincount(strip.ravel(), minlength=256)
            small.append(strip[-top % every :: every, ::every])
            top += len(strip)
            kept += [strip] if whole else []
        self.areas_ = areas[:count]
        self.overview_ = np.concatenate(small)
        self.pixel_area_ = scene.grid.pixel_area
        self.labels_: np.ndarray | None = None
        if whole:
            labels = np.concatenate(kept).astype(np.int32)
            labels[labels == MASKED] = -1
            self.labels_ = labels[:, 0] if scene.table else labels

    def units_of(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) uint8 the unit of each of (n, bands) pixels, and (n,) float32 how sure it is."""
        found = through(self.network_, pixels)
        return found[:, 0].astype(np.uint8), found[:, 1]

    def predict(self, X: Any, *, mask: Any = None, filtered: bool = True) -> np.ndarray:
        """The map of a scene.

        Args:
            X: a scene of as many bands, as for `fit`. mask: likewise.
            filtered: after the majority filter.

        Returns:
            (H, W) int32 units, -1 where a pixel is not valid; of a table (n,).
        """
        check_is_fitted(self, self.fitted)
        scene = _scene_of(X, mask)
        found = whole_map(self, scene, filtered=filtered)
        return found[:, 0] if scene.table else found

    def fit_predict(self, X: Any, y: Any = None, *, mask: Any = None) -> np.ndarray:
        """`labels_` after `fit`; of a large scene `predict`."""
        self.fit(X, mask=mask)
        return self.predict(X, mask=mask) if self.labels_ is None else self.labels_

    def transform(self, X: Any, *, mask: Any = None) -> np.ndarray:
        """(pixels, code) of all pixels in their order; NaN where one is not valid."""
        check_is_fitted(self, self.fitted)
        return self._by_pixel(_scene_of(X, mask), self.network_.codes)

    def reconstruct(self, X: Any, *, mask: Any = None) -> np.ndarray:
        """The scene as its codes give it back, of the shape of X; NaN where it is not valid."""
        check_is_fitted(self, self.fitted)
        scene = _scene_of(X, mask)
        codes = self._by_pixel(scene, self.network_.codes)
        known = np.isfinite(codes).all(1)
        back = np.full((len(codes), len(self.bands_)), np.nan, np.float32)
        back[known] = through(Applied(self.network_.codes.restored), codes[known])
        if scene.table:
            return back
        return back.T.reshape(-1, scene.grid.height, scene.grid.width)

    def _by_pixel(self, scene: Scene, module: nn.Module) -> np.ndarray:
        check_bands(self, scene)
        parts = []
        for _, pixels, valid in valid_strips(scene):
            found = through(module, pixels) if len(pixels) else None
            width = len(self.cluster_centers_[0])
            part = np.full((valid.size, width), np.nan, np.float32)
            if found is not None:
                part[valid.ravel()] = found
            parts.append(part)
        return np.concatenate(parts)

    def write_predictions(self, path: Path | str, source: Any, **options: Any) -> int:
        """Write the map of a scene; see `stackwise.tasks.rasters.maps.writing`."""
        from stackwise.tasks.rasters.maps.writing import write_predictions

        return write_predictions(path, self, source, **options)

    def _write(self, folder: Path) -> dict[str, Any]:
        encoder: Any = self.network_.codes.encoder
        write_tensors(folder / "model.safetensors", self.network_.state_dict())
        with replacing(folder / "overview.png") as beside:
            Image.fromarray(self.overview_).save(beside, "PNG")
        more = {
            "valid": self.valid_, "internal": self.internal_,
            "elbow": None if self.elbow_ is None else vars(self.elbow_),
            "error": self.reconstruction_error_, "pixel_area": self.pixel_area_,
            "areas": self.areas_, "spectra": self.spectra_, "spreads": self.spreads_,
        }  # fmt: skip
        return {
            "bands": self.bands_, "encoder": place_of(type(encoder)),
            "arguments": encoder.arguments, "units": len(self.cluster_centers_), "more": more,
        }  # fmt: skip

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.bands_ = list(record["bands"])
        path = folder / "model.safetensors"
        tensors, own = read_tensors(path), "codes.encoder."
        shapes = {
            name.removeprefix(own): tensor.shape
            for name, tensor in tensors.items() if name.startswith(own)
        }  # fmt: skip
        encoder = within(network_class(record["encoder"]), record["arguments"], shapes, path)
        blank = torch.zeros(len(self.bands_))
        codes = PixelCodes(encoder, blank, blank, cut=self.clip > 0)
        self.network_ = PixelUnits(codes, torch.zeros_like(tensors["centres"]))
        self.network_.load_state_dict(tensors)
        self.network_.eval()
        self.cluster_centers_ = tensors["centres"].numpy()
        self.band_min_ = tensors["codes.low"].numpy()
        span = tensors["codes.span"].numpy()
        self.band_max_ = self.band_min_ + np.where(np.isinf(span), 0, span)
        more = record["more"]
        self.valid_, self.internal_ = more["valid"], more["internal"]
        self.elbow_ = None if more["elbow"] is None else Elbow(**more["elbow"])
        self.reconstruction_error_ = more["error"]
        self.pixel_area_ = more["pixel_area"]
        self.areas_ = np.array(more["areas"], dtype=np.int64)
        self.spectra_, self.spreads_ = (
            np.array(more[name], dtype=np.float64) for name in ("spectra", "spreads")
        )
        with Image.open(folder / "overview.png") as picture:
            self.overview_ = np.asarray(picture)


def _scene_of(X: Any, mask: Any) -> Scene:
    """The scene of a loaded task, or what is given, opened."""
    if hasattr(X, "scene"):
        scene: Scene = X.scene
        return scene
    return open_scene(X, mask=mask)
