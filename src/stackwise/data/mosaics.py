"""Questions about made pictures: mosaics of labelled tiles, and what is asked about them.

A mosaic is a square of cells with a tile each. Asked is which tile a cell holds (`cell`), what a
row holds (`row`), and whether a tile is there at all (`present`; half of the answers are yes). They
are the tiles of any labelled set of pictures, or the 26 capitals in the built-in font of pillow,
which are small on purpose: at half the size many of them look alike.

This is made data: it shows that a method runs and what a second resolution is worth, nothing more.
"""

import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise.data import readers

if TYPE_CHECKING:
    import numpy as np

LETTERS = string.ascii_uppercase
CELL, FONT = 14, 8
"""Pixels of a letter's cell, and the size of the font: glyphs are up to 5 x 8 pixels."""
CONTRAST, NOISE = (0.6, 1.0), 0.2
"""How bright a letter is, and the deviation of the noise on its picture, black 0 and white 1."""


def letter_tiles(cell: int = CELL) -> "np.ndarray":
    """(26, cell, cell) float32, 0 to 1: each capital in the middle of its cell."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=FONT)
    tiles = np.zeros((len(LETTERS), cell, cell), np.float32)
    for place, letter in enumerate(LETTERS):
        drawn = Image.new("L", (cell, cell))
        left, top, right, bottom = font.getbbox(letter)
        at = ((cell - right - left) / 2, (cell - bottom - top) / 2)
        ImageDraw.Draw(drawn).text((round(at[0]), round(at[1])), letter, fill=255, font=font)
        tiles[place] = np.asarray(drawn, np.float32) / 255
    return tiles


def letter_pictures(
    count: int, cells: int, rng: "np.random.Generator"
) -> "tuple[np.ndarray, np.ndarray]":
    """(count, side, side) uint8 mosaics of letters under noise, and (count, cells, cells) which."""
    import numpy as np

    which = rng.integers(0, len(LETTERS), (count, cells, cells))
    bright = rng.uniform(*CONTRAST, (count, cells, cells, 1, 1))
    laid = joined(letter_tiles()[which] * bright)
    noisy = laid + NOISE * rng.normal(size=laid.shape)
    # grey 64 to 192 leaves room for the noise on both sides
    return np.clip(64 + 128 * noisy, 0, 255).round().astype(np.uint8), which


def joined(tiles: "np.ndarray") -> "np.ndarray":
    """(n, rows, columns, h, w, ...) -> (n, rows h, columns w, ...)."""
    count, rows, columns, height, width, *more = tiles.shape
    return tiles.swapaxes(2, 3).reshape(count, rows * height, columns * width, *more)


def mosaics_of(
    pictures: "np.ndarray", labels: Sequence[Any], *, count: int, cells: int = 2, seed: int = 0
) -> "list[dict[str, Any]]":
    """Questions about mosaics of any labelled pictures of one size.

    Args:
        pictures: (n, H, W) or (n, H, W, C) uint8. labels: (n,) what each shows.
        count: of mosaics. cells: of a side.

    Returns:
        records of `image`, `question`, `answer` and `kind`.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(pictures), (count, cells, cells))
    shown = joined(pictures[drawn])
    names = np.array([str(label) for label in labels], dtype=object)
    return questions(shown, names[drawn], sorted(set(names)), rng)


def letter_mosaics(place: Path | None = None, *, count: int = 1_000, cells: int = 2, seed: int = 0
                   ) -> "list[dict[str, Any]]":  # fmt: skip
    """Questions about mosaics of letters. place: not read; the letters are drawn."""
    import numpy as np

    rng = np.random.default_rng(seed)
    shown, which = letter_pictures(count, cells, rng)
    return questions(shown, np.array(list(LETTERS), dtype=object)[which], list(LETTERS), rng)


def digit_mosaics(file: Path, *, count: int = 1_000, cells: int = 2) -> "list[dict[str, Any]]":
    """Questions about mosaics of scikit-learn's digits."""
    pictures, labels = readers.digits(file)
    return mosaics_of(pictures, labels.tolist(), count=count, cells=cells)


def questions(
    shown: "np.ndarray", names: "np.ndarray", known: Sequence[str], rng: "np.random.Generator"
) -> "list[dict[str, Any]]":
    """Three questions about each mosaic, one of each kind.

    Args:
        shown: (n, H, W, ...) the mosaics. names: (n, cells, cells) what their cells hold.
        known: every name that there is.
    """
    found: list[dict[str, Any]] = []
    cells = names.shape[1]
    for picture, held in zip(shown, names, strict=True):
        row, column = rng.integers(0, cells, 2)
        cell = f"what is in row {row + 1}, column {column + 1}?"
        found.append(_record(picture, cell, str(held[row, column]), "cell"))
        row = int(rng.integers(0, cells))
        found.append(_record(picture, f"what is in row {row + 1}?", " ".join(held[row]), "row"))
        inside = sorted(set(held.ravel()))
        outside = [name for name in known if name not in inside]
        yes = bool(rng.integers(0, 2)) or not outside
        name = str(rng.choice(inside if yes else outside))
        found.append(_record(picture, f"is there {name}?", "yes" if yes else "no", "present"))
    return found


def _record(picture: Any, question: str, answer: str, kind: str) -> dict[str, Any]:
    return {"image": picture, "question": question, "answer": answer, "kind": kind}
