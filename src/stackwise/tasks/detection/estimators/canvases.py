"""Bring pictures of different sizes onto square canvases, and their boxes with them.

The longer side of a picture becomes the canvas's, smaller pictures are enlarged; nothing is
stretched. The picture lies at the upper left, and what is left over is grey.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stackwise.tasks.detection.boxes import Boxes, Fit
from stackwise.tasks.detection.reading.scenes import Scenes
from stackwise.tasks.images.reading.threads import begin, finish

GREY = 128
MEMORY = 1 << 30
"""Bytes of canvases that are held; of more, each is made when it is asked for."""


class Canvases:
    """n squares.

    Attributes:
        side: pixels. fits: how each picture lies on its canvas.
        boxes: (k, 4) float32 of each, on the canvas. codes: (k,) int64 their classes.
    """

    def __init__(
        self,
        scenes: Scenes,
        side: int,
        boxes: Sequence[np.ndarray] = (),
        codes: Sequence[np.ndarray] = (),
    ) -> None:
        self.scenes, self.side = scenes, side
        self.fits = [fit_of(size, side) for size in scenes.sizes]
        self.boxes = [of * np.float32(fit.scale) for of, fit in zip(boxes, self.fits)]
        self.codes = list(codes)
        self._held: np.ndarray | None = None
        if len(scenes) * 3 * side * side <= MEMORY:
            self._held = np.empty((len(scenes), side, side, 3), np.uint8)

            def fill(piece: slice) -> None:
                assert self._held is not None
                for row in range(piece.start, piece.stop):
                    self._held[row] = self._made(row)

            finish(begin(fill, len(scenes)))

    def __len__(self) -> int:
        return len(self.scenes)

    def take(self, rows: np.ndarray) -> Tensor:
        """(k, 3, S, S) float32 from 0 to 1 of some rows."""
        if self._held is not None:
            pictures = self._held[rows]
        else:
            pictures = np.stack([self._made(int(row)) for row in rows])
        return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(255).contiguous()

    def _made(self, row: int) -> np.ndarray:
        picture, fit = self.scenes[row], self.fits[row]
        wide = max(round(fit.width * fit.scale), 1)
        tall = max(round(fit.height * fit.scale), 1)
        if (tall, wide) != picture.shape[:2]:
            resized = Image.fromarray(picture).resize((wide, tall), Image.Resampling.BICUBIC)
            picture = np.asarray(resized)
        made = np.full((self.side, self.side, 3), GREY, np.uint8)
        made[:tall, :wide] = picture
        return made


def fit_of(size: tuple[int, int], side: int) -> Fit:
    """How a picture of (height, width) lies on a canvas."""
    height, width = size
    return Fit(side / max(height, width), height, width)


def coded(of: Sequence[Boxes], classes: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The boxes of objects and their class numbers; crowds and classes that are not known go."""
    places = {label: place for place, label in enumerate(classes.tolist())}
    boxes, codes = [], []
    for one in of:
        own = one.objects
        numbers = np.array([places.get(label, -1) for label in own.labels], np.int64)
        boxes.append(own.boxes[numbers >= 0])
        codes.append(numbers[numbers >= 0])
    return boxes, codes
