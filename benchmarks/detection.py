"""Average precision of detectors beside pycocotools, from the boxes of pictures to the scores.

Pictures are of COCO's kind: 80 classes, 7 objects and 30 answers each. The peer gets the same
content ready-made, and reads it as its users do (`createIndex`, `loadRes`).
"""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from side_by_side import alternate, line
from stackwise.tasks.detection.boxes import Answer, Boxes
from stackwise.tasks.detection.results.precision import as_coco, average_precision
from stackwise.tasks.labelled.found import objects

PICTURES = (500, 2000, 5000)
CLASSES, OBJECTS, ANSWERS = 80, 7, 30


def drawn(pictures: int) -> tuple[list[Boxes], list[Answer]]:
    """Objects, and answers near to them and elsewhere."""
    rng = np.random.default_rng(0)
    truth, found = [], []
    for _ in range(pictures):
        low = rng.uniform(0, 400, (OBJECTS, 2))
        boxes = np.concatenate([low, low + rng.uniform(10, 200, (OBJECTS, 2))], 1)
        codes = rng.integers(0, CLASSES, OBJECTS)
        rows = rng.integers(0, OBJECTS, ANSWERS)
        near = boxes[rows] + rng.normal(0, 8, (ANSWERS, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        said = np.where(rng.random(ANSWERS) < 0.7, codes[rows], rng.integers(0, CLASSES, ANSWERS))
        scores = np.sort(rng.random(ANSWERS))[::-1]
        truth.append(
            Boxes(boxes.astype(np.float32), objects(f"{code:02d}" for code in codes),
                  np.zeros(OBJECTS, bool))
        )  # fmt: skip
        found.append(Answer(near.astype(np.float32), scores.astype(np.float32),
                            objects(f"{code:02d}" for code in said)))  # fmt: skip
    return truth, found


def by_pycocotools(content: dict, answers: np.ndarray) -> Sequence[float]:
    """The twelve numbers of COCO."""
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = content
        known.createIndex()
        evaluated = COCOeval(known, known.loadRes(answers), "bbox")
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    return evaluated.stats


def main() -> None:
    """Three numbers of pictures."""
    for pictures in PICTURES:
        truth, found = drawn(pictures)
        content, answers = as_coco(truth, found)
        ours, peer = alternate(
            lambda: average_precision(truth, found),  # noqa: B023
            lambda: by_pycocotools(content, answers),  # noqa: B023
            1,
        )
        line(f"AP of {pictures:,} pictures", ours, peer, "pycocotools", "s", "float64", 1)


if __name__ == "__main__":
    main()
