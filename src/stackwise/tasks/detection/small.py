"""Annotated pictures that are made, for tests and to try things on."""

import numpy as np

CLASSES = ("disc", "square")


def small_scenes(
    count: int = 40, side: int = 64, seed: int = 0
) -> tuple[list[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
    """Pictures of smooth noise with one to three squares and discs, and their exact boxes; every
    tenth has none.
    """
    rng = np.random.default_rng(seed)
    pictures, truth = [], []
    rows, columns = np.mgrid[0:side, 0:side] + 0.5
    for number in range(count):
        coarse = rng.integers(60, 140, (side // 8, side // 8, 3))
        picture = coarse.repeat(8, 0).repeat(8, 1).astype(np.uint8)
        boxes, labels = [], []
        for _ in range(0 if number % 10 == 9 else int(rng.integers(1, 4))):
            size = int(rng.integers(10, 29))
            x, y = rng.integers(0, side - size + 1, 2)
            label = str(rng.choice(CLASSES))
            colour = np.where(rng.random(3) < 0.5, 10, 245)
            inside = (columns >= x) & (columns <= x + size) & (rows >= y) & (rows <= y + size)
            if label == "disc":
                inside = np.hypot(columns - x - size / 2, rows - y - size / 2) <= size / 2
            picture[inside] = colour
            boxes.append((x, y, x + size, y + size))
            labels.append(label)
        pictures.append(picture)
        truth.append((np.array(boxes, np.float32).reshape(-1, 4), np.array(labels)))
    return pictures, truth
