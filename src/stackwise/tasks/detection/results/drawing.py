"""Draw boxes on pictures."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stackwise.tasks.detection.boxes import Answer

COLOURS = (
    (37, 99, 235), (217, 119, 6), (5, 150, 105), (220, 38, 38), (124, 58, 237), (8, 145, 178),
    (190, 24, 93), (101, 163, 13),
)  # fmt: skip
SMALLEST = 480
"""Pixels of the longer side to which smaller pictures are enlarged, so that words can be read."""


def with_boxes(picture: np.ndarray, found: Answer, classes: Sequence[str]) -> Image.Image:
    """A picture with a box, its class and its score for each answer.

    Args:
        picture: (H, W, 3) uint8. classes: their places choose colours.
    """
    image = Image.fromarray(picture)
    scale = max(1, round(SMALLEST / max(image.size)))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    thick = max(2, round(max(image.size) / 320))
    font = ImageFont.load_default(size=max(11, round(max(image.size) / 48)))
    places = {name: place for place, name in enumerate(classes)}
    for box, score, label in reversed(list(zip(found.boxes, found.scores, found.labels))):
        colour = COLOURS[places.get(str(label), 0) % len(COLOURS)]
        x1, y1, x2, y2 = (float(side) * scale for side in box)
        draw.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=colour, width=thick)
        words = f"{label} {score:.2f}"
        left, top, right, below = draw.textbbox((x1, y1), words, font=font)
        up = min(below - top + 4, y1)
        draw.rectangle((left, top - up, right + 4, below - up), fill=colour)
        draw.text((x1 + 2, y1 - up), words, fill="white", font=font)
    return image
