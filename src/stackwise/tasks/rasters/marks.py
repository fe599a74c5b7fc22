"""How a scene is known before it is read: by its ending, and a TIFF by its tags."""

import os
import struct
from pathlib import Path
from typing import Any

from stackwise.marks import ending, first_entries, is_named, is_path

TIFF = (".tif", ".tiff")
ENDINGS = (
    ".tif", ".tiff", ".vrt", ".img", ".jp2", ".nc", ".hdf", ".h5", ".asc", ".bil", ".ers", ".grd",
    ".dat", ".rst", ".hgt", ".dem",
)  # fmt: skip
"""Files of which rasterio knows what they are."""
ARRAYS = (".npy", ".npz")
GEOGRAPHY = {33550, 34264, 34735}
"""TIFF tags that say where a picture lies: its scale, its transform, its keys."""
SAMPLES = 277
"""The TIFF tag that counts the bands."""


def recognises(source: Any) -> float:
    """A named scene surely; a TIFF that says where it lies or has more than four bands nearly so,
    and a folder of such; other rasters likely, arrays hardly.
    """
    if not is_path(source):
        listed = isinstance(source, (list, tuple)) and len(source) > 0
        return recognises(source[0]) if listed and is_path(source[0]) else 0.0
    if is_named(source, "rasters"):
        return 1.0
    path = Path(os.fspath(source))
    if path.is_dir():
        files, _ = first_entries(path)
        tiffs = [file for file in files if file.suffix.lower() in TIFF]
        return 0.95 if tiffs and all(_lies_somewhere(file) for file in tiffs[:20]) else 0.0
    found = ending(source)
    if not path.is_file():
        return 0.0
    if found in TIFF:
        return 0.95 if _lies_somewhere(path) else 0.4
    if found in ARRAYS:
        return 0.3
    return 0.6 if found in ENDINGS else 0.0


def _lies_somewhere(path: Path) -> bool:
    """Whether a TIFF has tags of a place on Earth, or more bands than a picture."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
            order = {b"II": "<", b"MM": ">"}[head[:2]]
            big = struct.unpack(order + "H", head[2:4])[0] == 43
            place = struct.unpack(order + "Q", head[8:16])[0] if big else (
                struct.unpack(order + "I", head[4:8])[0]
            )  # fmt: skip
            file.seek(place)
            size, kind, entry = (8, "Q", 20) if big else (2, "H", 12)
            count = struct.unpack(order + kind, file.read(size))[0]
            for _ in range(min(count, 500)):
                one = file.read(entry)
                tag = struct.unpack(order + "H", one[:2])[0]
                if tag in GEOGRAPHY:
                    return True
                value = struct.unpack(order + "H", one[12:14] if big else one[8:10])[0]
                if tag == SAMPLES and value > 4:
                    return True
    except (OSError, KeyError, struct.error):
        return False
    return False
