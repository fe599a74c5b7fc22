"""The rasters task: part the pixels of a scene into units, a map.

    task = RastersTask.load("scene.tif", reference="map.tif")
    learner = task.fit(SpectralMapper())
    task.judge(learner, "test").scores["accuracy"]

Units are found in the scene alone. A reference scores them: its pixels are parted in squares, half
of which choose between methods and half of which give the final score. What decides is the accuracy
after units were given the classes that fit best (`stackwise.tasks.rasters.maps.scoring`), since it
is the share of the map that is right; without a reference there is no score.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
import xxhash

from stackwise.catalog import Knob, task
from stackwise.errors import DataError
from stackwise.findings import Findings
from stackwise.learning.metrics import Metric
from stackwise.marks import is_path
from stackwise.protocols import Judged, Part, RunLike
from stackwise.tasks.described import described
from stackwise.tasks.labelled.found import count
from stackwise.tasks.labelled.options import kept_options
from stackwise.tasks.rasters.maps import showing
from stackwise.tasks.rasters.maps.majority import MASKED
from stackwise.tasks.rasters.maps.making import map_strips
from stackwise.tasks.rasters.maps.scoring import METRIC, matched_accuracy, score_map
from stackwise.tasks.rasters.maps.writing import write_predictions
from stackwise.tasks.rasters.marks import recognises
from stackwise.tasks.rasters.reading.opening import open_scene
from stackwise.tasks.rasters.reading.reference import UNKNOWN, Reference, read_reference
from stackwise.tasks.rasters.reading.scene import Scene, strips
from stackwise.tasks.rasters.small import small_scene
from stackwise.tasks.table.loading import title_of

SQUARE = 8
"""Pixels of the side of the squares in which a reference is parted: neighbours are alike."""
_DEFAULTS = {"most_judged": 100_000, "split_seed": 0}


@task(title="A scene of several bands, whose map is drawn", recognises=recognises,
      sample="scene.tif")  # fmt: skip
class RastersTask:
    """A scene of several bands, whose pixels are parted into units.

    Attributes:
        scene: what is mapped. reference: what is known of its units, or None.
        most_judged: pixels of a part that are judged, drawn by the seed.
    """

    name: ClassVar[str] = "rasters"
    ending: ClassVar[str] = "tif"
    problem: ClassVar[str] = "mapping"
    target: ClassVar[str] = "units"
    metric: ClassVar[Metric] = METRIC
    write_predictions = staticmethod(write_predictions)

    scene: Scene
    reference: Reference | None
    most_judged: int
    title: str
    notes: list[str]
    data_hash: str
    options: dict[str, Any]

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        reference: Annotated[
            str | Any | None, Knob("what is known: a raster of classes, or GeoJSON polygons")
        ] = None,
        reference_field: Annotated[
            str | None, Knob("the property of a polygon that says its class")
        ] = None,
        reference_nodata: Annotated[
            float | None, Knob("the class of a reference that stands for none")
        ] = None,
        mask: Annotated[str | Any | None, Knob("a raster; 0 leaves a pixel out")] = None,
        nodata: Annotated[float | None, Knob("a number that stands for none")] = None,
        bands: Annotated[list[int] | None, Knob("bands that are read, from 1; none is all")] = None,
        most_judged: Annotated[
            int, Knob("pixels of a held-out part that are judged", ge=1)
        ] = 100_000,
        split_seed: Annotated[int, Knob("of the split", ge=0)] = 0,
    ) -> "RastersTask":
        """Open a scene, and what is known of its units.

        Args:
            source: a file that rasterio reads, .npy or .npz; a folder or a list of such, whose
                bands are stacked; a named scene; in Python an array (bands, height, width).
            reference: on the same grid; polygons are drawn on it.

        Raises:
            DataError: one sentence about what cannot be used, and what would be right.
        """
        made = cls()
        given = {
            "reference": reference, "reference_field": reference_field,
            "reference_nodata": reference_nodata, "mask": mask, "nodata": nodata, "bands": bands,
            "most_judged": most_judged, "split_seed": split_seed,
        }  # fmt: skip
        said = {k: v for k, v in given.items() if k not in ("reference", "mask") or is_path(v)}
        made.options = kept_options(said, _DEFAULTS)
        made.title = title_of(source) if is_path(source) else "the scene"
        made.scene = open_scene(source, mask=mask, nodata=nodata, bands=bands)
        made.reference = None
        if reference is not None:
            made.reference = read_reference(
                reference, made.scene, field=reference_field, nodata=reference_nodata
            )
        elif reference_field is not None or reference_nodata is not None:
            raise DataError("there is no reference that a field or a class could be of; give one")
        made.most_judged, made._seed = most_judged, split_seed
        made.notes = []
        made._look()
        return made

    _seed: int
    _valid: int
    _judged: dict[str, np.ndarray]

    def _look(self) -> None:
        """Read the scene once: its hash, how much is valid, which pixels are judged."""
        told = xxhash.xxh3_64()
        grid = self.scene.grid
        known = None if self.reference is None else self.reference.codes
        self._valid = 0
        for top, rows in strips(self.scene):
            values, valid = self.scene.read(top, rows)
            told.update(np.where(valid, values, 0).tobytes() + valid.tobytes())
            self._valid += int(valid.sum())
            if known is not None:
                known[top : top + rows][~valid] = UNKNOWN
                told.update(known[top : top + rows].tobytes())
        if not self._valid:
            raise DataError(
                f"no pixel of {self.scene.title} is valid: all are no data, masked or not finite"
            )
        told.update(f"{grid} {self.scene.names} {self.most_judged} {self._seed}".encode())
        self.data_hash = told.hexdigest()
        share = self._valid / (grid.height * grid.width)
        names = self.scene.names
        size = f"{grid.height:,} x {grid.width:,} pixels, {count(len(names), 'band')}"
        self.notes.append(f"{size}: {', '.join(names[:20])}")
        if share < 1:
            self.notes.append(f"{100 * (1 - share):.3g} % of the pixels are not valid")
        self._part(known)

    def _part(self, known: np.ndarray | None) -> None:
        """Draw the judged pixels of each part, as places in the flat scene.

        Raises:
            DataError: a part would hold none.
        """
        if known is None:
            nothing = np.zeros(0, np.int64)
            self._judged = {"validation": nothing, "test": nothing}
            self.notes.append("there is no reference, and so no score")
            return
        rng = np.random.default_rng(self._seed)
        places = np.flatnonzero(known.ravel() != UNKNOWN)
        if len(places) < 2:
            raise DataError(
                f"the reference knows {len(places)} valid pixels of {self.scene.title}; 2 are the "
                "least, one to choose by and one to score"
            )
        width = known.shape[1]
        side = max(1, min(SQUARE, min(known.shape) // 16))
        across = -(-width // side)
        squares = (places // width // side) * across + places % width // side
        names, of = np.unique(squares, return_inverse=True)
        if len(names) == 1:
            names, of = places, np.arange(len(places))
        first = rng.permutation(len(names)) < len(names) // 2
        halves = {"validation": places[first[of]], "test": places[~first[of]]}
        self._judged = {
            part: np.sort(rng.choice(of_part, min(len(of_part), self.most_judged), replace=False))
            for part, of_part in halves.items()
        }

    @property
    def size_bytes(self) -> int:
        """What is held at least: the strips of a scene are read when they are needed."""
        grid = self.scene.grid
        return min(4 * grid.height * grid.width * len(self.scene.names), 1 << 29)

    @property
    def unscored(self) -> str | None:
        """Why nothing can be scored; None where there is a reference."""
        if self.reference is not None:
            return None
        return f"{self.title} has no reference to score maps by; give one with --reference"

    def fit(self, learner: Any) -> Any:
        """Let a learner find units in the scene; it sees no reference."""
        return learner.fit(self)

    def judge(self, learner: Any, part: Part) -> Judged:
        """Map the scene and score the map on a part of the reference's pixels; without a reference
        there are no scores.
        """
        if part not in self._judged:
            raise DataError(f"a scene has the judged parts validation and test, not {part!r}")
        places = self._judged[part]
        width = self.scene.grid.width
        began = time.perf_counter()
        units = np.zeros(len(places), np.uint8)
        top = 0
        for strip in map_strips(learner, self.scene) if len(places) else ():
            low, high = np.searchsorted(places, [top * width, (top + len(strip)) * width])
            units[low:high] = strip.ravel()[places[low:high] - top * width]
            top += len(strip)
        seconds = time.perf_counter() - began
        samples = pd.DataFrame({"row": places, "unit": units.astype(np.int64)})
        if self.reference is None:
            return Judged({}, samples, seconds)
        codes = self.reference.codes.ravel()[places].astype(np.int64)
        classes = np.array(self.reference.classes)
        scores = score_map(np.where(units == MASKED, -1, samples["unit"]), codes)
        return Judged(scores, samples.assign(target=classes[codes], code=codes), seconds)

    def resampled(self, run: RunLike) -> tuple[int, Callable[[np.ndarray], float]]:
        """The judged test pixels of a finished run, and the accuracy of any of them, units matched
        anew.
        """
        table = run.predictions
        units, codes = table["unit"].to_numpy(), table["code"].to_numpy()
        return len(table), lambda rows: matched_accuracy(units[rows], codes[rows])

    @classmethod
    def shows(cls, runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
        """The map, its legend and its units; see `stackwise.tasks.rasters.maps.showing`."""
        return showing.shows(runs, data)

    @classmethod
    def small(cls, problem: str | None = None) -> "RastersTask":
        """24 x 24 pixels of three units that are known."""
        cube, units = small_scene()
        return cls.load(cube, reference=units)

    def rows(self) -> dict[str, int]:
        """Pixels: those that are learned from, and those that are judged."""
        return {"train": self._valid} | {part: len(of) for part, of in self._judged.items()}

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        known = self.reference
        return described(self, self.rows(), classes=None if known is None else known.classes) | {
            "features": len(self.scene.names),
            "grid": self.scene.grid.as_dict(),
        }
