"""Average precision, by faster-coco-eval, which counts as pycocotools does.

    precision at recall r of the answers of a class, sorted by score, interpolated at r = 0, 0.01,
    ..., 1; AP is its mean over r, over the classes and over IoU thresholds 0.5, 0.55, ..., 0.95

`ap50` and `ap75` have one threshold; `ap_small`, `ap_medium`, `ap_large` count objects below 32^2
pixels, from there to 96^2, and above; `ar` is the recall of at most 100 answers a picture.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stackwise.errors import DataError
from stackwise.optional import needs
from stackwise.tasks.detection.boxes import Answer, Boxes

SCORES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
RECALL = {"ar": 8}
"""Places of the twelve numbers that COCO sums up."""


def average_precision(truth: Sequence[Boxes], found: Sequence[Answer]) -> dict[str, float]:
    """Every score by name, the deciding one first; those of sizes that no object has are left out.

    Without any object AP is 0.

    Raises:
        NotInstalled: faster-coco-eval is not here.
    """
    needs("faster_coco_eval", "the average precision of detectors")
    from faster_coco_eval import COCO, COCOeval_faster

    if len(truth) != len(found):
        raise DataError(f"{len(truth):,} pictures have {len(found):,} answers")
    content, answers = as_coco(truth, found)
    if not any(not one["iscrowd"] for one in content["annotations"]):
        return {"ap": 0.0}
    known = COCO(content)
    said = known.loadRes(answers) if len(answers) else COCO(content | {"annotations": []})
    evaluated = COCOeval_faster(known, said, "bbox", print_function=_quiet)
    evaluated.evaluate()
    evaluated.accumulate()
    evaluated.summarize()
    return summed_up(evaluated.stats)


def summed_up(stats: Any) -> dict[str, float]:
    """COCO's numbers by name; -1 stands for none."""
    numbers = {name: float(stats[place]) for place, name in enumerate(SCORES)}
    numbers |= {name: float(stats[place]) for name, place in RECALL.items()}
    return {name: value for name, value in numbers.items() if value >= 0 or name == "ap"}


def as_coco(truth: Sequence[Boxes], found: Sequence[Answer]) -> tuple[dict[str, Any], np.ndarray]:
    """The boxes of pictures as COCO's content, and the answers (n, 7): picture, x, y, width,
    height, score, category. Classes are those of the truth and of the answers.
    """
    of_each: list[np.ndarray] = [*(one.labels for one in truth), *(one.labels for one in found)]
    every = {str(label) for labels in of_each for label in labels}
    places = {name: number for number, name in enumerate(sorted(every), 1)}
    annotations: list[dict[str, Any]] = []
    rows = []
    for picture, (one, other) in enumerate(zip(truth, found, strict=True), 1):
        for box, label, crowd in zip(one.boxes.tolist(), one.labels, one.crowd.tolist()):
            x, y, width, height = box[0], box[1], box[2] - box[0], box[3] - box[1]
            annotations.append({
                "id": len(annotations) + 1, "image_id": picture, "category_id": places[str(label)],
                "bbox": [x, y, width, height], "area": width * height, "iscrowd": int(crowd),
            })  # fmt: skip
        if len(other.scores):
            size = other.boxes[:, 2:] - other.boxes[:, :2]
            numbers = np.array([places[str(label)] for label in other.labels], np.float64)
            rows.append(np.column_stack(
                [np.full(len(numbers), picture), other.boxes[:, :2], size, other.scores, numbers]
            ))  # fmt: skip
    content = {
        "info": {}, "annotations": annotations,
        "images": [{"id": picture} for picture in range(1, len(truth) + 1)],
        "categories": [{"id": number, "name": name} for name, number in places.items()],
    }  # fmt: skip
    return content, np.concatenate(rows) if rows else np.zeros((0, 7))


def _quiet(*_: Any) -> None:
    """faster-coco-eval tells of its steps; nobody asked."""
