"""Small pictures on which a method is tried in a second."""

import numpy as np


def small_pictures(count: int = 90, side: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(n, side, side) uint8 pictures of a bar or a square on noise, and what each shows."""
    generator = np.random.default_rng(seed)
    pictures = generator.integers(0, 60, (count, side, side), dtype=np.uint8)
    labels = np.array(["across", "down", "square"], dtype=object)[np.arange(count) % 3]
    for picture, label in zip(pictures, labels, strict=True):
        top, left = generator.integers(1, side - 6, 2)
        height, width = {"across": (2, 5), "down": (5, 2), "square": (4, 4)}[label]
        picture[top : top + height, left : left + width] = 220
    order = generator.permutation(count)
    return pictures[order], labels[order]
