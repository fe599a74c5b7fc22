"""Which answers are right: COCO's rule.

The answers of a class in a picture take their turns, the surest first. Each takes the object of its
class, not taken yet, that it overlaps most, if by at least the threshold; it is right then, and
wrong otherwise. In a crowd it is neither: crowds are looked at last, may be taken often, and of the
answer's own area as much must lie in them.
"""

from typing import NamedTuple

import numpy as np

from stackwise.tasks.detection.boxes import Answer, Boxes, iou

THRESHOLDS = np.linspace(0.5, 0.95, 10)


class Matched(NamedTuple):
    """The answers of a picture against its objects.

    Attributes:
        right, ignored: (T, n) bool of each answer, by threshold.
        found: (T, m) bool of each object, whether an answer took it.
    """

    right: np.ndarray
    ignored: np.ndarray
    found: np.ndarray


def matched(truth: Boxes, answer: Answer, thresholds: np.ndarray = THRESHOLDS) -> Matched:
    """The answers, the surest first, against the objects of one picture."""
    steps, said, there = len(thresholds), len(answer.scores), len(truth.labels)
    right, ignored = np.zeros((steps, said), bool), np.zeros((steps, said), bool)
    found = np.zeros((steps, there), bool)
    if not said or not there:
        return Matched(right, ignored, found)
    overlaps = iou(answer.boxes, truth.boxes)
    crowded = np.flatnonzero(truth.crowd)
    if len(crowded):
        overlaps[:, crowded] = _inside(answer.boxes, truth.boxes[crowded])
    same = np.array([str(one) for one in answer.labels])[:, None] == np.array(
        [str(one) for one in truth.labels]
    )
    overlaps = np.where(same, overlaps, -1.0)
    order = np.argsort(-answer.scores, kind="stable")
    own = np.flatnonzero(~truth.crowd)
    for step, threshold in enumerate(thresholds):
        least = min(threshold, 1 - 1e-10)
        for row in order:
            if len(own):
                free = np.where(found[step, own], -1.0, overlaps[row, own])
                # of equal ones the last, as COCO has it
                best = len(free) - 1 - int(np.argmax(free[::-1]))
                if free[best] >= least:
                    right[step, row] = found[step, own[best]] = True
                    continue
            if len(crowded) and overlaps[row, crowded].max() >= least:
                ignored[step, row] = True
    return Matched(right, ignored, found)


def _inside(boxes: np.ndarray, crowds: np.ndarray) -> np.ndarray:
    """(n, m) the share of each box that lies in each crowd."""
    low = np.maximum(boxes[:, None, :2], crowds[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], crowds[None, :, 2:])
    size = (boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None]
    inside = np.clip(high - low, 0, None).prod(-1)
    return np.divide(inside, size, out=np.zeros_like(inside), where=size > 0)
