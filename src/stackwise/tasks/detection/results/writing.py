"""Look for boxes in new pictures and write them as COCO's results.

    [{"image_id": 7, "category_id": 2, "bbox": [x, y, width, height], "score": 0.93,
      "file_name": "a/7.jpg", "category": "lorry"}, ...]

pycocotools reads that, and passes over the two names. `image_id` and `category_id` are those of the
source where it is a COCO json; otherwise pictures are numbered from 1 in their order, and classes
from 1 in the order of their names.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.files import replacing, writing
from stackwise.tasks.detection.boxes import Answer
from stackwise.tasks.detection.reading.find import find_bare
from stackwise.tasks.detection.reading.scenes import read_scenes
from stackwise.tasks.detection.results.drawing import with_boxes
from stackwise.tasks.images.reading.loading import told_broken

BLOCK = 64


def write_predictions(
    path: Path | str,
    learner: Any,
    source: Any,
    *,
    least_score: Annotated[
        float, Knob("leave out boxes that are less sure than this", ge=0, le=1)
    ] = 0.05,
    show: Annotated[
        str | None, Knob("also draw the boxes on the pictures, into this folder")
    ] = None,
    show_score: Annotated[
        float, Knob("draw boxes that are at least this sure", ge=0, le=1)
    ] = 0.3,
) -> int:  # fmt: skip
    """Find the objects of every picture of `source` and write them to `path` (.json).

    Args:
        learner: a fitted detector.
        source: a folder of pictures, annotated or not; whatever `DetectionTask.load` takes.

    Returns:
        The boxes written.

    Raises:
        DataError: the source cannot be read; nothing is left half written.
    """
    path = Path(path)
    if path.suffix.lower() != ".json":
        raise DataError(f"{path} must end in .json: COCO's results")
    found = find_bare(source)
    if isinstance(source, (str, Path)) and path.exists() and path.samefile(source):
        raise DataError(f"{path} is the input; name another file for what is found")
    scenes, broken = read_scenes(found.samples, found.names)
    told_broken(broken, len(found), "skip")
    good = np.array([row for row in range(len(found)) if row not in broken], dtype=np.int64)
    ids, names = found.columns["id"].to_numpy(), [str(one) for one in learner.classes_]
    numbers = {name: number for number, name in enumerate(names, 1)}
    categories: dict[str, int] = found.columns.attrs.get("categories") or {}
    if set(names) <= set(categories):
        numbers = {name: categories[name] for name in names}
    written: list[dict[str, Any]] = []
    for start in range(0, len(good), BLOCK):
        rows = good[start : start + BLOCK]
        block = scenes.only(rows)
        for place, answer in enumerate(learner.answers(block)):
            kept = _above(answer, least_score)
            row = int(rows[place])
            written += [
                _result(ids[row], found.names[row], *one, numbers)
                for one in zip(kept.boxes.tolist(), kept.scores.tolist(), map(str, kept.labels))
            ]
            if show is not None:
                _draw(Path(show), found.names[row], block[place], _above(answer, show_score), names)
    with writing(path), replacing(path) as beside:
        beside.write_text(json.dumps(written), encoding="utf-8")
    return len(written)


def _above(answer: Answer, score: float) -> Answer:
    kept = answer.scores >= score
    return Answer(answer.boxes[kept], answer.scores[kept], answer.labels[kept])


def _result(
    id_: Any, name: str, box: list[float], score: float, label: str, numbers: dict[str, int]
) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {
        "image_id": id_.item() if hasattr(id_, "item") else id_, "category_id": numbers[label],
        "bbox": [round(one, 2) for one in (x1, y1, x2 - x1, y2 - y1)], "score": round(score, 4),
        "file_name": name, "category": label,
    }  # fmt: skip


def _draw(folder: Path, name: str, picture: np.ndarray, found: Answer, classes: list[str]) -> None:
    """One picture with its boxes, as PNG, below the folder as the picture lies below its source."""
    way = [part for part in Path(name).with_suffix(".png").parts if part not in ("/", "..")]
    place = folder.joinpath(*way)
    with writing(place), replacing(place) as beside:
        with_boxes(picture, found, classes).save(beside, "PNG")
