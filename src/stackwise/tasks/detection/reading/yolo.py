"""Read YOLO's files: a text a picture, a line a box: class, then the middle and the size as shares.

    3 0.512 0.430 0.100 0.222          class 3, cx, cy, width, height, all of the picture's sides

The text of `images/a/1.jpg` is `labels/a/1.txt`, or lies beside the picture. `data.yaml` names the
classes and the parts; without it `classes.txt` names them, or they are called by their numbers. A
picture without a text, or with an empty one, has no object.
"""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stackwise.errors import DataError
from stackwise.tasks.detection.marks import YAML
from stackwise.tasks.detection.reading.annotated import Gathered, boxes_of
from stackwise.tasks.images.marks import ENDINGS, PICTURE
from stackwise.tasks.labelled.folders import files_below
from stackwise.tasks.labelled.found import PARTS, Found, count, some

NAMES = ("classes.txt", "obj.names", "labels.txt")


def find_yolo(source: Path) -> Found:
    """The pictures of a data.yaml, or of a folder.

    The boxes are shares: `in_pixels` brings them to the sizes of pictures.

    Raises:
        DataError: a file is damaged, a line is no box, or a class has no name.
    """
    root = source if source.is_dir() else source.parent
    described = source if source.is_file() else _described(source)
    names, parts = _read_yaml(described) if described else ({}, {})
    names = names or _names_beside(root)
    gathered = Gathered(shares=True)
    bare = 0
    for picture, part in _pictures(root, parts):
        text = _text_of(picture)
        bare += text is None
        boxes = boxes_of([], [], []) if text is None else _boxes(text, names)
        name = str(picture.relative_to(root)) if picture.is_relative_to(root) else str(picture)
        gathered.add(picture, name, boxes, part)
    if bare:
        gathered.notes.append(
            f"{count(bare, PICTURE)} without a text of boxes: without objects, as YOLO has it"
        )
    gathered.categories |= {name: number for number, name in names.items()}
    found = gathered.found(source)
    found.columns.attrs["shares"] = True
    return found


def in_pixels(boxes: Any, size: tuple[int, int]) -> Any:
    """Boxes in shares of the sides as pixels of a picture of (height, width)."""
    height, width = size
    limits = np.array([width, height, width, height], np.float32)
    return boxes._replace(boxes=boxes.boxes * limits)


def _described(folder: Path) -> Path | None:
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in YAML]
    named = [file for file in files if file.stem in ("data", "dataset")]
    return next(iter(named or files), None)


def _read_yaml(file: Path) -> tuple[dict[int, str], dict[str, list[Path]]]:
    """The names of classes by number, and the folders or lists of each part."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise DataError(f"{file} says nothing of YOLO: it has no names")
    given = found.get("names") or {}
    pairs = given.items() if isinstance(given, dict) else enumerate(given)
    try:
        names = {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError):
        raise DataError(f"the names of {file} are no list and have no numbers") from None
    root = file.parent / str(found.get("path") or ".")
    root = root if root.is_dir() else file.parent
    parts: dict[str, list[Path]] = {}
    for key in ("train", "val", "valid", "test"):
        listed = found.get(key) or []
        for one in [listed] if isinstance(listed, str) else listed:
            parts.setdefault(PARTS[key], []).append(_place(root, file, str(one)))
    return names, parts


def _place(root: Path, file: Path, said: str) -> Path:
    """A folder or list that a yaml names, wherever it was exported."""
    tried = [root / said, file.parent / said, file.parent / said.lstrip("./")]
    for place in tried:
        if place.exists():
            return place
    raise DataError(f"{file} names {said}, which is not there")


def _pictures(root: Path, parts: dict[str, list[Path]]) -> list[tuple[Path, str | None]]:
    if parts:
        found: list[tuple[Path, str | None]] = []
        for part, places in parts.items():
            for place in places:
                found += [(one, part) for one in _in_place(place)]
        return found
    every = files_below(root, ENDINGS, PICTURE).files
    words = [_part(one.relative_to(root)) for one in every]
    known = None not in words
    return [(one, part if known else None) for one, part in zip(every, words, strict=True)]


def _in_place(place: Path) -> list[Path]:
    if place.is_dir():
        return files_below(place, ENDINGS, PICTURE).files
    lines = [line.strip() for line in place.read_text(encoding="utf-8").splitlines()]
    return [place.parent / line for line in lines if line]


def _part(way: Path) -> str | None:
    return next((PARTS[name.lower()] for name in way.parts[:-1] if name.lower() in PARTS), None)


def _names_beside(root: Path) -> dict[int, str]:
    for name in NAMES:
        for place in (root / name, root / "labels" / name):
            if place.is_file():
                lines = place.read_text(encoding="utf-8").splitlines()
                return {n: line.strip() for n, line in enumerate(lines) if line.strip()}
    return {}


def _text_of(picture: Path) -> Path | None:
    beside = picture.with_suffix(".txt")
    ways = list(picture.parts)
    tried = []
    for place in range(len(ways) - 2, -1, -1):
        if ways[place].lower() == "images":
            tried.append(Path(*ways[:place], "labels", *ways[place + 1 :]).with_suffix(".txt"))
            break
    return next((one for one in (*tried, beside) if one.is_file() and one.name not in NAMES), None)


def _boxes(text: Path, names: dict[int, str]) -> Any:
    rows, labels = [], []
    for number, line in enumerate(text.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            label, (x, y, w, h) = int(words[0]), (float(word) for word in words[1:])
        except ValueError:
            more = "; outlines are not read" if len(words) > 5 else ""
            raise DataError(
                f"line {number} of {text} is no class and four shares: {line[:60]!r}{more}"
            ) from None
        if not all(-1 <= one <= 2 for one in (x, y, w, h)):
            raise DataError(
                f"line {number} of {text} has {line[:60]!r}; the places of YOLO are shares of the "
                "picture's sides, from 0 to 1"
            )
        if names and label not in names:
            raise DataError(
                f"line {number} of {text} is of the class {label}, which has no name; there are "
                f"{some([f'{n} {name}' for n, name in names.items()], 8)}"
            )
        rows.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
        labels.append(names.get(label, str(label)))
    return boxes_of(rows, labels, [False] * len(rows))
