"""What every estimator shares that finds objects: pictures in, boxes out.

model.fit(pictures, [(boxes, labels), ...])     boxes (n, 4) as x1, y1, x2, y2 in pixels
model.predict(pictures)         [{"boxes": (n, 4), "scores": (n,), "labels": (n,)}, ...]
model.score(pictures, truth)    average precision
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from stackwise.errors import DataError
from stackwise.learning.learner import Learner
from stackwise.protocols import Task
from stackwise.tasks.detection.boxes import Answer, Boxes, joined_answers, no_answer
from stackwise.tasks.detection.estimators.canvases import Canvases, coded
from stackwise.tasks.detection.reading.checking import checked_boxes
from stackwise.tasks.detection.reading.scenes import Scenes, scenes_of
from stackwise.tasks.detection.reading.sizes import asked_side, common_side
from stackwise.tasks.detection.reading.tiles import windows_of
from stackwise.tasks.labelled.found import objects

MERGED = 0.5
"""IoU above which two boxes of one class from overlapping windows are one object."""
ASKED = 64
"""Pictures that are put on canvases at once when boxes are looked for."""


class DetectionEstimator(Learner):
    """An estimator that finds objects.

    Fitted: `classes_`, what is told apart, sorted; `image_size_`, the side of the squares onto
    which pictures are brought; `tile_`, the side above which pictures are looked at in windows, or
    None.
    """

    tasks: ClassVar[tuple[str, ...]] = ("detection",)
    fitted: ClassVar[str] = "classes_"

    classes_: np.ndarray
    image_size_: int
    tile_: int | None

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        validation: tuple[Any, Any] | None = None,
        image_size: int | None = None,
        tile: int | None = None,
    ) -> Self:
        """Learn from annotated pictures.

        Args:
            X: n pictures: a list of arrays (H, W, 3), of paths or of pillow's images, or an array;
                or a loaded task, and nothing else.
            y: n pairs (boxes (k, 4), labels (k,)), or mappings with these; k may be 0.
            validation: (X, y) by which the best epoch is chosen; without, the last one is kept.
            image_size: side of the squares onto which pictures are brought; found by itself.
            tile: pictures with a longer side are looked at in overlapping windows in `predict`.

        Raises:
            DataError: nothing can be learned from this input; the sentence says why.
            KnobError: a knob is out of range.
        """
        if y is None and isinstance(X, Task):
            X.fit(self)
            return self
        self._begin()
        scenes = scenes_of(X)
        boxes = self._truth(scenes, y)
        if not any(len(one.objects.labels) for one in boxes):
            raise DataError("no picture has a box; there is nothing to learn")
        self.classes_ = classes_of(boxes)
        self.image_size_ = (
            common_side(scenes.sizes)[0] if image_size is None else asked_side(image_size)
        )
        self.tile_ = tile
        held = None
        if validation is not None and len(validation[0]):
            other = scenes_of(validation[0])
            truth = self._truth(other, validation[1])
            held = Canvases(other, self.image_size_), known(truth, self.classes_)
        self._learn(Canvases(scenes, self.image_size_, *coded(boxes, self.classes_)), held)
        return self

    def _truth(self, scenes: Scenes, y: Any) -> list[Boxes]:
        if y is None or len(y) != len(scenes):
            number = "none" if y is None else f"{len(y):,}"
            raise DataError(f"{len(scenes):,} pictures want as many lists of boxes, got {number}")
        return checked_boxes(list(y), scenes.sizes, scenes.names, self.notes_)

    def _learn(self, train: Canvases, held: tuple[Canvases, Sequence[Boxes]] | None) -> None:
        """Learn; `held` are pictures and their boxes (class numbers) by which to choose."""
        raise NotImplementedError

    def _detect(self, canvases: Canvases) -> list[Answer]:
        """What is found on each canvas, in its pixels, with class numbers."""
        raise NotImplementedError

    def answers(self, X: Any) -> list[Answer]:
        """What is found in each picture, the surest first, in its pixels and by its labels."""
        check_is_fitted(self, self.fitted)
        scenes = scenes_of(X)
        found: list[Answer] = []
        for start in range(0, len(scenes), ASKED):
            found += self._answers(scenes[start : start + ASKED])
        return found

    def _answers(self, scenes: Scenes) -> list[Answer]:
        looks: list[tuple[int, Any, str]] = []
        for row, size in enumerate(scenes.sizes):
            whole = self.tile_ is None or max(size) <= self.tile_
            own = scenes.regions[row]
            if whole:
                looks.append((row, own, scenes.names[row]))
                continue
            assert self.tile_ is not None
            x, y = (own[0], own[1]) if own is not None else (0, 0)
            looks += [
                (row, (x1 + x, y1 + y, x2 + x, y2 + y), scenes.names[row])
                for x1, y1, x2, y2 in windows_of(size, self.tile_)
            ]
        canvases = Canvases(scenes.tiled(looks), self.image_size_)
        parts: dict[int, list[Answer]] = {}
        for (row, region, _), fit, one in zip(
            looks, canvases.fits, self._detect(canvases), strict=True
        ):
            own = scenes.regions[row]
            x, y = (own[0], own[1]) if own is not None else (0, 0)
            shift = (region[0] - x, region[1] - y) if region is not None else (0, 0)
            parts.setdefault(row, []).append(one.on_picture(fit).moved(*shift))
        return [self._named(merged(parts[row])) for row in range(len(scenes))]

    def _named(self, one: Answer) -> Answer:
        return Answer(one.boxes, one.scores, self.classes_[one.labels.astype(int)])

    def predict(self, X: Any) -> list[dict[str, np.ndarray]]:
        """`boxes` (n, 4), `scores` (n,) and `labels` (n,) of each picture, the surest first."""
        return [one.as_dict() for one in self.answers(X)]

    def score(self, X: Any, y: Any) -> float:
        """Average precision over classes and IoU from 0.5 to 0.95."""
        from stackwise.tasks.detection.results.precision import average_precision

        check_is_fitted(self, self.fitted)
        scenes, notes = scenes_of(X), list[str]()
        truth = checked_boxes(list(y), scenes.sizes, scenes.names, notes)
        return average_precision(truth, self.answers(scenes))["ap"]

    def _write(self, folder: Path) -> dict[str, Any]:
        return super()._write(folder) | {
            "classes": self.classes_.tolist(), "image_size": self.image_size_, "tile": self.tile_,
        }  # fmt: skip

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.classes_ = objects(record["classes"])
        self.image_size_, self.tile_ = int(record["image_size"]), record["tile"]


def classes_of(boxes: Sequence[Boxes]) -> np.ndarray:
    """The labels of objects, sorted: numbers by size, before texts."""
    every = {label for one in boxes for label in one.objects.labels}
    return objects(sorted(every, key=lambda label: (isinstance(label, str), label)))


def known(boxes: Sequence[Boxes], classes: np.ndarray) -> list[Boxes]:
    """The same with class numbers; of classes that are not known, numbers beyond."""
    places = {label: place for place, label in enumerate(classes.tolist())}
    return [
        Boxes(one.boxes, objects(places.get(of, len(places)) for of in one.labels), one.crowd)
        for one in boxes
    ]


def merged(looks: Sequence[Answer]) -> Answer:
    """What several windows of a picture saw, objects on borders once."""
    if len(looks) == 1:
        return looks[0]
    from stackwise.tasks.detection.heads.decoding import nms_by_class

    every = joined_answers(looks)
    if not len(every.scores):
        return no_answer(np.int64)
    kept = nms_by_class(
        torch.from_numpy(every.boxes), torch.from_numpy(every.scores),
        torch.from_numpy(every.labels.astype(np.int64)), MERGED,
    ).numpy()  # fmt: skip
    return Answer(every.boxes[kept], every.scores[kept], every.labels[kept])
