"""The constant guess: in every picture the same boxes, those that fit the training pictures best.

Boxes are kept as shares of a picture's sides. Of a grid of boxes, and of the training boxes, the
ones are taken, one after the other, that overlap (IoU >= 0.5) most training boxes of a class that
none so far did; the score of each is the share of training pictures in which it is right. It sees
nothing of a picture: what a detector is worth begins above it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from stackwise.catalog import Knob, baseline
from stackwise.files import read_tensors, write_tensors
from stackwise.tasks.detection.boxes import Answer, Boxes, iou, joined_answers, no_answer
from stackwise.tasks.detection.estimators.canvases import Canvases
from stackwise.tasks.detection.estimators.estimator import DetectionEstimator

TRIED = 400
"""Training boxes of a class that are tried, drawn at random where there are more."""


@baseline("constant-boxes", title="The same boxes in every picture", presets={"quick": {"each": 3}})
class ConstantBoxes(DetectionEstimator):
    """Answer every picture with the same boxes.

    Fitted: `boxes_` (k, 4) shares of the sides, `scores_` and `labels_` (class numbers).
    """

    def __init__(
        self, *, each: Annotated[int, Knob("boxes of a class, at most", ge=1, le=100)] = 10
    ) -> None: ...

    boxes_: np.ndarray
    scores_: np.ndarray
    labels_: np.ndarray

    def _learn(self, train: Canvases, held: tuple[Canvases, Sequence[Boxes]] | None) -> None:
        rng = np.random.default_rng(0)
        kept = [no_answer(np.int64)]
        shares = [_shares(boxes, fit) for boxes, fit in zip(train.boxes, train.fits, strict=True)]
        for code in range(len(self.classes_)):
            own = [boxes[codes == code] for boxes, codes in zip(shares, train.codes, strict=True)]
            every = np.concatenate(own)
            rows = rng.permutation(len(every))[:TRIED]
            tried = every[np.sort(rows)]
            hits = iou(tried, every) >= 0.5
            picture = np.concatenate([np.full(len(one), row) for row, one in enumerate(own)])
            left = np.ones(len(every), bool)
            for _ in range(min(self.each, len(tried))):
                counts = (hits & left).sum(1)
                best = int(np.argmax(counts))
                if not counts[best]:
                    break
                right = len(np.unique(picture[hits[best] & left])) / len(train)
                kept.append(Answer(tried[best : best + 1], np.array([right], np.float32),
                                   np.array([code])))  # fmt: skip
                left &= ~hits[best]
        found = joined_answers(kept)
        order = np.argsort(-found.scores, kind="stable")
        self.boxes_, self.scores_, self.labels_ = (part[order] for part in found)

    def _detect(self, canvases: Canvases) -> list[Answer]:
        return [
            Answer((self.boxes_ * _sides(fit)).astype(np.float32), self.scores_, self.labels_)
            for fit in canvases.fits
        ]

    def _write(self, folder: Path) -> dict[str, Any]:
        arrays = {"boxes": self.boxes_, "scores": self.scores_, "labels": self.labels_}
        write_tensors(
            folder / "model.safetensors",
            {name: torch.as_tensor(array) for name, array in arrays.items()},
        )
        return super()._write(folder)

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        found = read_tensors(folder / "model.safetensors")
        self.boxes_, self.scores_, self.labels_ = (
            found[name].numpy() for name in ("boxes", "scores", "labels")
        )


def _sides(fit: Any) -> np.ndarray:
    """A picture's sides on its canvas."""
    return np.array([fit.width, fit.height, fit.width, fit.height]) * fit.scale


def _shares(boxes: np.ndarray, fit: Any) -> np.ndarray:
    return (boxes / _sides(fit)).astype(np.float32)
