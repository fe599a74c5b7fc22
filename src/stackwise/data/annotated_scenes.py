"""Annotated pictures: tree crowns that people drew from the air, and scenes that are composed.

Tree crowns are four scenes of 10 cm a pixel with a box around each crown. They are cut into tiles
that share no pixel; the smaller scene of Yellowstone is the test part as a whole, and the last
column of the larger one is the validation part.

A composed scene is a piece of a photograph on which handwritten digits are pasted, from 10 to 72
pixels (log-uniform), in a colour that stands out. Their boxes are exact. A digit, and a pixel of a
photograph, is in one part alone.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

TEST = "2019_YELL_2_541000_4977000_image_crop"
LARGE = "2019_YELL_2_528000_4978000_image_crop2"
SCENES = (LARGE, TEST, "OSBS_029", "SOAP_061")
TILE = 400
KEEP = 0.4
"""Share of a crown that must lie in a tile to be a box of it."""
PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png",
    "grass.png", "gravel.png", "motorcycle_left.png", "rocket.jpg",
)  # fmt: skip
PARTS = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}
"""Which share of each photograph's width, and of the digits, a part has."""
SIZES = (10, 72)
STANDS_OUT = 70
"""Least difference of a digit's brightness from that of what it lies on."""


def tree_crowns(folder: Path) -> "tuple[list[np.ndarray], list[Any], list[str]]":
    """The tiles of the four scenes, the boxes of each, and its part; every class is `tree`."""
    import xml.etree.ElementTree as ET

    import numpy as np
    from PIL import Image

    pictures: list[np.ndarray] = []
    truth: list[Any] = []
    parts: list[str] = []
    for name in SCENES:
        root = ET.parse(folder / f"{name}.xml").getroot()
        sides = ("xmin", "ymin", "xmax", "ymax")
        boxes = np.array([
            [float(one.findtext(f"bndbox/{side}") or "nan") for side in sides]
            for one in root.iter("object")
        ])  # fmt: skip
        with Image.open(folder / f"{name}.png") as image:
            whole = np.asarray(image.convert("RGB"))
        height, width = whole.shape[:2]
        down, across = _edges(height), _edges(width)
        for x1, x2 in pairwise(across):
            last = x2 == width and name == LARGE
            for y1, y2 in pairwise(down):
                inside = np.clip(boxes, (x1, y1, x1, y1), (x2, y2, x2, y2))
                area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
                kept = (inside[:, 2:] - inside[:, :2]).prod(1) >= KEEP * area
                pictures.append(np.ascontiguousarray(whole[y1:y2, x1:x2]))
                own = (inside[kept] - (x1, y1, x1, y1)).astype(np.float32)
                truth.append((own, np.array(["tree"] * len(own), dtype=object)))
                parts.append("test" if name == TEST else "validation" if last else "train")
    return pictures, truth, parts


def _edges(side: int) -> list[int]:
    pieces = -(-side // TILE)
    return [round(place * side / pieces) for place in range(pieces + 1)]


def digit_scenes(digits_file: Path) -> "tuple[list[np.ndarray], list[Any], list[str]]":
    """1,000 scenes to learn from, 200 for validation and 1,000 for the test."""
    from stackwise.data.readers import mnist_csv

    digits, labels = mnist_csv(digits_file)
    counts = {"train": 1000, "validation": 200, "test": 1000}
    pictures: list[Any] = []
    truth: list[Any] = []
    parts: list[str] = []
    for part, count in counts.items():
        made, boxes = composed_scenes(digits, labels, photographs(), count, part=part)
        pictures, truth, parts = pictures + made, truth + boxes, parts + [part] * count
    return pictures, truth, parts


def photographs() -> "list[np.ndarray]":
    """The photographs of scikit-image, (H, W, 3) uint8 each."""
    import numpy as np
    from PIL import Image

    from stackwise.data.entry import in_package
    from stackwise.errors import NotInstalled

    folder = in_package("skimage", "data")()
    if folder is None:
        raise NotInstalled("composed scenes need scikit-image: pip install scikit-image==0.26.0")
    found = []
    for name in PHOTOGRAPHS:
        with Image.open(folder / name) as image:
            found.append(np.asarray(image.convert("RGB")))
    return found


def composed_scenes(
    digits: "np.ndarray",
    labels: "np.ndarray",
    grounds: "Sequence[np.ndarray]",
    count: int,
    *,
    part: str = "train",
    side: int = 96,
    sizes: tuple[int, int] = SIZES,
    most: int = 4,
    seed: int = 0,
) -> "tuple[list[np.ndarray], list[Any]]":
    """Scenes of one to `most` digits on photographs.

    Args:
        digits: (n, 28, 28) uint8, ink above 0. labels: (n,). grounds: photographs.
        part: train, validation or test: each has its own digits and its own pixels.
        sizes: least and greatest longer side of a digit's box, in pixels.

    Returns:
        (side, side, 3) uint8 each, and (boxes (k, 4) float32, labels (k,) texts).
    """
    import numpy as np

    places = list(PARTS)
    rng = np.random.default_rng([seed, places.index(part)])
    order = np.random.default_rng(1).permutation(len(digits))
    first, last = PARTS[part]
    own = order[round(first * len(order)) : round(last * len(order))]
    pictures, truth = [], []
    for _ in range(count):
        picture = _ground(grounds, first, last, side, rng)
        boxes: list[tuple[int, int, int, int]] = []
        names: list[str] = []
        for _ in range(int(rng.integers(1, most + 1))):
            row = int(own[rng.integers(len(own))])
            size = float(np.exp(rng.uniform(*np.log(sizes))))
            stamp = _stamp(digits[row], size)
            box = _place(stamp.shape, boxes, side, rng)
            if box is not None:
                _paste(picture, stamp, box, rng)
                boxes.append(box)
                names.append(str(labels[row]))
        pictures.append(picture)
        truth.append((np.array(boxes, np.float32).reshape(-1, 4), np.array(names, dtype=object)))
    return pictures, truth


def _ground(grounds: "Sequence[np.ndarray]", first: float, last: float, side: int, rng: Any) -> Any:
    """A piece of a photograph between two shares of its width, mirrored by chance."""
    photograph = grounds[int(rng.integers(len(grounds)))]
    height, width = photograph.shape[:2]
    low, high = round(first * width), round(last * width)
    reach = min(side, height, high - low)
    x = int(rng.integers(low, high - reach + 1))
    y = int(rng.integers(0, height - reach + 1))
    piece = photograph[y : y + reach, x : x + reach]
    if reach < side:
        import numpy as np
        from PIL import Image

        piece = np.asarray(Image.fromarray(piece).resize((side, side)))
    return (piece[:, ::-1] if rng.random() < 0.5 else piece).copy()


def _stamp(digit: "np.ndarray", size: float) -> "np.ndarray":
    """The ink of a digit, cut to its box, whose longer side is `size` pixels; 0 to 1."""
    import numpy as np
    from PIL import Image

    rows, columns = (np.flatnonzero((digit > 64).any(axis)) for axis in (1, 0))
    ink = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = size / max(ink.shape)
    wide, tall = (max(round(one * scale), 2) for one in ink.shape[::-1])
    return np.asarray(Image.fromarray(ink).resize((wide, tall), Image.Resampling.BICUBIC)) / 255.0


def _place(shape: tuple[int, ...], boxes: "Sequence[Any]", side: int, rng: Any) -> Any:
    """A place where a stamp covers nothing of the others; None where none was found."""
    tall, wide = shape
    for _ in range(20):
        x, y = int(rng.integers(0, side - wide + 1)), int(rng.integers(0, side - tall + 1))
        free = all(
            x + wide <= x1 or x2 <= x or y + tall <= y1 or y2 <= y for x1, y1, x2, y2 in boxes
        )
        if free:
            return x, y, x + wide, y + tall
    return None


def _paste(picture: "np.ndarray", stamp: "np.ndarray", box: Any, rng: Any) -> None:
    """Draw a stamp in a colour that stands out."""
    import numpy as np

    x1, y1, x2, y2 = box
    under = picture[y1:y2, x1:x2].astype(np.float64)
    light = under.mean()
    colour = rng.uniform(0, 255, 3)
    while abs(colour.mean() - light) < STANDS_OUT:
        colour = rng.uniform(0, 255, 3)
    ink = np.clip(stamp, 0, 1)[..., None]
    picture[y1:y2, x1:x2] = (under * (1 - ink) + colour * ink).round().astype(np.uint8)
