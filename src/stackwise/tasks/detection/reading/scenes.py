"""Pictures of different sizes: decoded once, and held where they fit, else decoded again.

A scene is a picture or a rectangle of one (a tile). Decoding is that of the images task: turned as
EXIF says, transparency on white, every kind of file brought to 8-bit RGB.
"""

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import xxhash
from PIL import Image

from stackwise.errors import DataError
from stackwise.tasks.images.reading.arrays import as_pictures
from stackwise.tasks.images.reading.decode import BadPicture, Content, decode
from stackwise.tasks.images.reading.threads import begin, finish

Region = tuple[int, int, int, int]
"""x1, y1, x2, y2 of a tile in its picture."""


class Scenes(Sequence[np.ndarray]):
    """n pictures, each (H, W, 3) uint8 when it is asked for.

    Attributes:
        sizes: (height, width) of each. names: what each is called. hashes: (n,) uint64.
    """

    def __init__(
        self,
        contents: Sequence[Content],
        names: Sequence[str],
        sizes: Sequence[tuple[int, int]],
        hashes: np.ndarray,
        regions: "Sequence[Region | None] | None" = None,
        held: "dict[int, np.ndarray] | None" = None,
        places: "Sequence[int] | None" = None,
    ) -> None:
        self.contents, self.names, self.sizes, self.hashes = contents, names, list(sizes), hashes
        self.regions = [None] * len(names) if regions is None else list(regions)
        self._held = {} if held is None else held
        self._places = list(range(len(names))) if places is None else list(places)
        self._last: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, row: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, row: slice) -> "Scenes": ...
    def __getitem__(self, row: "int | slice") -> "np.ndarray | Scenes":
        if isinstance(row, slice):
            return self.only(np.arange(len(self))[row])
        place, region = self._places[row], self.regions[row]
        whole = self._held.get(place)
        if whole is None:
            last = self._last
            if last is None or last[0] != place:
                last = self._last = (place, decode(self.contents[place], name=self.names[row]))
            whole = last[1]
        if region is None:
            return whole
        x1, y1, x2, y2 = region
        return whole[y1:y2, x1:x2]

    def only(self, rows: np.ndarray) -> "Scenes":
        """Some of them, in this order."""
        return self.tiled([(int(row), self.regions[row], self.names[row]) for row in rows])

    def tiled(self, tiles: "Sequence[tuple[int, Region | None, str]]") -> "Scenes":
        """Rectangles of pictures as scenes of their own: (row, region, name) each."""
        sizes, hashes = [], []
        for row, region, _ in tiles:
            same = region == self.regions[row]
            sizes.append(self.sizes[row] if same or region is None
                         else (region[3] - region[1], region[2] - region[0]))  # fmt: skip
            hashes.append(self.hashes[row] if same else self._hash(row, region))
        return Scenes(
            self.contents, [name for *_, name in tiles], sizes, np.array(hashes, np.uint64),
            [region for _, region, _ in tiles], self._held,
            [self._places[row] for row, *_ in tiles],
        )  # fmt: skip

    def _hash(self, row: int, region: "Region | None") -> int:
        assert region is not None
        mark = f"{self.hashes[row]} {region}".encode()
        return xxhash.xxh3_64_intdigest(mark)

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        places = set(self._places)
        return sum(held.nbytes for place, held in self._held.items() if place in places)


def read_scenes(
    contents: Sequence[Any], names: Sequence[str], *, memory: int = 1 << 30
) -> tuple[Scenes, dict[int, BadPicture]]:
    """Decode each picture once, and hold the first ones as far as `memory` goes.

    Returns:
        All of them, and the errors of those that cannot be read, by row (their size is 0 x 0).
    """
    total = len(contents)
    held: dict[int, np.ndarray] = {}
    sizes: list[tuple[int, int]] = [(0, 0)] * total
    hashes, broken, used = np.zeros(total, np.uint64), {}, [0]

    def read(piece: slice) -> None:
        for row in range(piece.start, piece.stop):
            try:
                picture = decode(contents[row], name=names[row])
            except BadPicture as error:
                broken[row] = error
                continue
            sizes[row] = (picture.shape[0], picture.shape[1])
            hashes[row] = xxhash.xxh3_64_intdigest(np.ascontiguousarray(picture).data)
            if used[0] + picture.nbytes <= memory:
                used[0] += picture.nbytes
                held[row] = picture

    finish(begin(read, total))
    return Scenes(contents, names, sizes, hashes, held=held), dict(sorted(broken.items()))


def scenes_of(X: Any, *, memory: int = 1 << 30) -> Scenes:
    """Pictures as a user gives them, in Python.

    Args:
        X: `Scenes`; a list of arrays (H, W), (H, W, C) or (C, H, W), of pillow's images or of
            paths; an array (n, ...) of pictures.

    Raises:
        DataError: it is nothing of that, or a picture cannot be read.
    """
    if isinstance(X, Scenes):
        return X
    if isinstance(X, np.ndarray) and X.dtype != object:
        contents: Sequence[Any] = list(as_pictures(X))
    elif isinstance(X, Sequence) and not isinstance(X, (str, bytes)):
        contents = [_content(one, row) for row, one in enumerate(X)]
    else:
        raise DataError(f"pictures are a list or an array of them, not a {type(X).__name__}")
    names = [str(one) if hasattr(one, "suffix") else f"picture {row + 1}"
             for row, one in enumerate(contents)]  # fmt: skip
    found, broken = read_scenes(contents, names, memory=memory)
    for error in broken.values():
        raise error
    return found


def _content(one: Any, row: int) -> Any:
    from pathlib import Path

    if isinstance(one, (str, Path)):
        return Path(one)
    if isinstance(one, Image.Image):
        return np.asarray(one.convert("RGB"))
    if hasattr(one, "shape") and len(one.shape) in (2, 3):
        array = np.asarray(one)
        if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
            array = np.moveaxis(array, 0, -1)
        if array.ndim == 2:
            array = array[..., None]
        return as_pictures(array[None], channels_first=False)[0]
    raise DataError(
        f"picture {row + 1} is a {type(one).__name__}; give an array (height, width, 3), a path or "
        "an image of pillow"
    )
