"""Boxes as arrays: those that a picture has, and those that were found in it.

A box is x1, y1, x2, y2 in pixels of the picture, from its upper left corner; x2 and y2 lie behind
the last pixel, so that x2 - x1 is a width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Fit(NamedTuple):
    """How a picture lies on a canvas: at its upper left corner, enlarged by `scale`.

    Attributes:
        height, width: of the picture, in its own pixels.
    """

    scale: float
    height: int
    width: int


class Boxes(NamedTuple):
    """The objects of a picture.

    Attributes:
        boxes: (n, 4) float32. labels: (n,) the class of each.
        crowd: (n,) bool, whether a box stands for many objects: it is not learned from, and what is
            found in it is neither right nor wrong.
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray

    @property
    def objects(self) -> "Boxes":
        """Those that are no crowd."""
        return self.only(~self.crowd)

    def only(self, rows: np.ndarray) -> "Boxes":
        """Some of them."""
        return Boxes(self.boxes[rows], self.labels[rows], self.crowd[rows])


class Answer(NamedTuple):
    """What was found in a picture, the surest first.

    Attributes:
        boxes: (n, 4) float32. scores: (n,) float32, 0 to 1. labels: (n,).
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def on_picture(self, fit: Fit) -> "Answer":
        """The boxes of a canvas in the pixels of the picture on it; those beside it go."""
        limits = np.array([fit.width, fit.height] * 2, np.float32)
        boxes = np.clip(self.boxes / np.float32(fit.scale), 0, limits)
        solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
        return Answer(boxes[solid], self.scores[solid], self.labels[solid])

    def moved(self, x: float, y: float) -> "Answer":
        """The same further to the right and down."""
        shift = np.array([x, y, x, y], np.float32)
        return Answer(self.boxes + shift, self.scores, self.labels)

    def as_dict(self) -> dict[str, Any]:
        """`boxes`, `scores` and `labels`."""
        return self._asdict()


def no_answer(labels: Any = object) -> Answer:
    """Nothing found."""
    return Answer(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, labels))


def joined_answers(several: Sequence[Answer]) -> Answer:
    """What was found by several looks, not sorted."""
    return Answer(*(np.concatenate(part) for part in zip(*several, strict=True)))


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, 4) and (m, 4) -> (n, m) intersection over union."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(-1)
    size = (first[:, 2:] - first[:, :2]).prod(1)[:, None] + (
        second[:, 2:] - second[:, :2]
    ).prod(1)[None] - inside  # fmt: skip
    return np.divide(inside, size, out=np.zeros_like(inside), where=size > 0)
