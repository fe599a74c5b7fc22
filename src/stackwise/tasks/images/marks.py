"""How pictures are known before any is decoded: by names, endings and the first folders."""

import json
import os
from pathlib import Path
from typing import Any

from stackwise.marks import ending, first_entries, is_named, is_path

ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".ico",
)  # fmt: skip
"""Files that are pictures, by their lower-case names."""
PICTURE = "picture"
"""What a sample is called."""
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Tables that name the pictures beside them."""
PARQUET = (".parquet", ".pq")
IMAGE = b'"_type": "Image"'
"""How `datasets` says in JSON that a column holds pictures."""


def recognises(source: Any) -> float:
    """A named set and arrays of three or four dimensions surely; a folder a class, pictures beside
    a metadata table, .npz, and tables with a column that `datasets` calls Image; a flat folder of
    pictures and one of Arrow hardly, and what is on the hub only where nobody else knows it.
    """
    if not is_path(source):
        listed = isinstance(source, (list, tuple)) and len(source) > 0
        first = source[0] if listed else source
        if isinstance(source, list) and is_path(first):
            return 0.9 if all(ending(one) in ENDINGS for one in source) else 0.0
        return 1.0 if getattr(first, "ndim", 0) in (3, 4) else 0.0
    if is_named(source, "images"):
        return 1.0
    path = Path(os.fspath(source))
    if path.is_dir():
        return _folder(path)
    found = ending(source)
    if found in PARQUET:
        return 0.9 if path.is_file() and IMAGE in _end(path) else 0.0
    if found == ".npz" or found in ENDINGS:
        return 0.9
    return 0.5 if found == ".npy" else 0.3 if str(source).startswith("hf://") else 0.0


def _folder(path: Path) -> float:
    files, folders = first_entries(path)
    names = {file.name for file in files}
    if names & {"dataset_dict.json", "state.json"}:
        return 0.9 if any(_says_image(place) for place in (path, *folders)) else 0.0
    if "X.npy" in names:
        return 0.9
    pictures = any(file.suffix.lower() in ENDINGS for file in files)
    below = [first_entries(folder) for folder in folders]
    within = any(
        file.suffix.lower() in ENDINGS
        for found, deeper in below
        for file in (*found, *(one for place in deeper[:5] for one in first_entries(place)[0]))
    )
    if (pictures or within) and (
        names & set(METADATA) or any(file.name in METADATA for found, _ in below for file in found)
    ):
        return 0.9
    if within:
        return 0.85
    if any(file.suffix.lower() in PARQUET and IMAGE in _end(file) for file in files):
        return 0.9
    return 0.3 if pictures else 0.0


def _says_image(folder: Path) -> bool:
    """Whether `datasets` saved a column of pictures here."""
    try:
        features = json.loads((folder / "dataset_info.json").read_bytes())["features"]
        return any(of.get("_type") == "Image" for of in features.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _end(path: Path) -> bytes:
    """The end of a parquet file, where it says what its columns are."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            size = file.tell()
            file.seek(max(size - 8, 0))
            length = int.from_bytes(file.read(4), "little")
            file.seek(max(size - 8 - min(length, 1 << 24), 0))
            return file.read(1 << 24)
    except OSError:
        return b""
