"""The detection task: find the objects in pictures, a box and a class of each.

    task = DetectionTask.load("boxes/")           COCO, Pascal VOC, YOLO or `datasets`
    X, y = task.part("train")                     pictures, and (boxes, labels) of each
    task.judge(learner, "test").scores["ap"]

What decides is AP, the mean over classes and over IoU thresholds 0.5, 0.55, ..., 0.95, of pictures
as they are in the source, whatever size a detector reads them at.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from stackwise.catalog import Knob, task
from stackwise.errors import DataError, nearest
from stackwise.files import plain
from stackwise.findings import Findings
from stackwise.learning.metric import Metric
from stackwise.protocols import Judged, Part, RunLike
from stackwise.tasks.described import described
from stackwise.tasks.detection.boxes import Boxes
from stackwise.tasks.detection.loading import Choices, load_parts
from stackwise.tasks.detection.marks import recognises
from stackwise.tasks.detection.reading.scenes import Scenes
from stackwise.tasks.detection.reading.sizes import asked_side, common_side
from stackwise.tasks.detection.results import showing
from stackwise.tasks.detection.results.precision import average_precision
from stackwise.tasks.detection.results.resampling import resampled_precision
from stackwise.tasks.detection.results.writing import write_predictions
from stackwise.tasks.detection.small import small_scenes
from stackwise.tasks.table.loading import title_of
from stackwise.training.session import cost_clock


@task(title="Pictures, the objects in them to find", recognises=recognises, sample="boxes/")
class DetectionTask:
    """Annotated pictures, parted into training, validation and test.

    Attributes:
        scenes: all pictures. boxes: of each. classes: of the training boxes, sorted.
        image_size: side of the squares onto which detectors bring pictures.
        tile: side above which pictures were cut, or None.
    """

    name: ClassVar[str] = "detection"
    ending: ClassVar[str] = "json"
    target: ClassVar[str] = "objects"
    problem: ClassVar[str] = "detection"
    metric: ClassVar[Metric] = Metric("ap", "max")
    write_predictions = staticmethod(write_predictions)

    title: str
    notes: list[str]
    data_hash: str
    options: dict[str, Any]
    scenes: Scenes
    boxes: list[Boxes]
    classes: np.ndarray
    image_size: int
    tile: int | None
    _rows: dict[Part, np.ndarray]

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        image_size: Annotated[
            int | None, Knob("side of the squares that pictures are brought to (found by itself)")
        ] = None,
        tile: Annotated[
            int | None, Knob("cut pictures with a longer side into tiles of at most this side")
        ] = None,
        tile_keep: Annotated[
            float, Knob("share of a box that a tile must hold", gt=0, le=1)
        ] = 0.4,
        validation: Annotated[float | str | Any, Knob("share of the rows, or a source")] = 0.2,
        test: Annotated[float | str | Any, Knob("share of the rows, or a source")] = 0.2,
        max_rows: Annotated[int | None, Knob("train on at most this many rows")] = None,
        split_seed: Annotated[int, Knob("of the split", ge=0)] = 0,
        memory: Annotated[
            str, Knob("what pictures may take; more are decoded when they are needed")
        ] = "1GiB",
        bad: Annotated[
            Literal["error", "skip"],
            Knob("what to do where more than a hundredth cannot be read"),
        ] = "error",
    ) -> "DetectionTask":  # fmt: skip
        """Read annotated pictures and part them.

        Args:
            source: COCO's json or a folder with it; a folder of Pascal VOC's xml; a folder or a
                data.yaml of YOLO; parquet, a folder of `datasets` or metadata.jsonl with a column
                `objects`; a named set (`stackwise data`); in Python (pictures, boxes), boxes a list
                of (boxes (n, 4) as x1, y1, x2, y2, labels (n,)).
            image_size: the longer side of each picture is brought to this; nothing is stretched.
            tile: pictures whose tiles are samples of their own, for training and for the scores;
                new pictures are looked at in overlapping windows of this side.
            validation: share of all pictures, or a source of its own. test: the same.

        Raises:
            DataError: one sentence about what cannot be used, and what would be right.
        """
        choices = Choices(
            target=None, group=None, validation=validation, test=test, max_rows=max_rows,
            split_seed=split_seed, image_size=image_size, tile=tile, tile_keep=tile_keep,
            memory=memory, bad=bad,
        )  # fmt: skip
        loaded = load_parts(source, choices)
        made = cls()
        made.title = "pictures" if isinstance(source, tuple) else title_of(source)
        made.scenes, made.boxes, made._rows = loaded.scenes, loaded.boxes, loaded.rows
        made.classes, made.notes, made.tile = loaded.classes, loaded.notes, tile
        if image_size is None:
            sizes = [loaded.scenes.sizes[row] for row in loaded.rows["train"]]
            made.image_size, note = common_side(sizes)
            made.notes.append(note)
        else:
            made.image_size = asked_side(image_size)
        made.options = choices.as_options()
        made.data_hash = made._fingerprint()
        return made

    def part(self, part: Part) -> tuple[Scenes, list[Boxes]]:
        """The pictures of a part, and the boxes of each."""
        rows = self.rows_of(part)
        return self.scenes.only(rows), [self.boxes[row] for row in rows]

    def rows_of(self, part: Part) -> np.ndarray:
        """The numbers of a part's pictures."""
        if part not in self._rows:
            raise DataError(f"there is no part {part!r}.{nearest(part, self._rows)}")
        return self._rows[part]

    @property
    def size_bytes(self) -> int:
        """Bytes that the pictures take in memory."""
        return self.scenes.nbytes

    def fit(self, learner: Any) -> Any:
        """Fit a learner on the training part; the validation part chooses the epoch."""
        return learner.fit(
            *self.part("train"), validation=self.part("validation"), image_size=self.image_size,
            tile=self.tile,
        )  # fmt: skip

    def judge(self, learner: Any, part: Part) -> Judged:
        """Score a fitted learner on a part; of test pictures what it found is kept too."""
        scenes, truth = self.part(part)
        began = cost_clock()
        found = learner.answers(scenes)
        seconds = cost_clock() - began
        scores = average_precision(truth, found)
        samples = showing.with_boxes(
            pd.DataFrame({"row": self.rows_of(part), "name": scenes.names}), truth, found
        )
        one = None
        if part == "test":
            samples = showing.with_pictures(samples, scenes, truth, found)
            began = cost_clock()
            learner.answers(scenes[:1])
            one = cost_clock() - began
        return Judged(scores, samples, seconds, one)

    def resampled(self, run: RunLike) -> tuple[int, Callable[[np.ndarray], float]]:
        """The test pictures of a finished run, and AP over any of them."""
        table = run.predictions
        return len(table), resampled_precision(*showing.boxes_in(table))

    @classmethod
    def shows(cls, runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
        """Found, missed and wrong boxes; see `stackwise.tasks.detection.results.showing`."""
        return showing.shows(runs, data)

    @classmethod
    def small(cls) -> "DetectionTask":
        """40 pictures of 64 x 64 with squares and discs; see `small_scenes`."""
        return cls.load(small_scenes())

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        rows = {part: len(rows) for part, rows in self._rows.items()}
        return described(self, rows, classes=[str(label) for label in self.classes]) | {
            "objects": {
                part: sum(len(self.boxes[row].labels) for row in rows)
                for part, rows in self._rows.items()
            },
            "image_size": self.image_size,
            "tile": self.tile,
        }

    def _fingerprint(self) -> str:
        """Of pictures, boxes, parts and options; 16 digits."""
        digest = hashlib.sha256(json.dumps(plain(self.options), sort_keys=True).encode())
        for part in sorted(self._rows):
            rows = self._rows[part]
            digest.update(f"\0{part}\0".encode() + self.scenes.hashes[rows].tobytes())
            for row in rows:
                digest.update(self.boxes[row].boxes.tobytes() + self.boxes[row].crowd.tobytes())
                digest.update("\0".join(map(str, self.boxes[row].labels)).encode())
        return digest.hexdigest()[:16]
