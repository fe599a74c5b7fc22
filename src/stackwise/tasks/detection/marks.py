"""How annotated pictures are known before any is read: by the names of files, and the beginnings of
those that annotate.

    COCO      JSON with images, annotations and categories
    VOC       XML whose root is annotation, beside pictures or in Annotations
    YOLO      data.yaml, dataset.yaml; or a folder labels of .txt beside a folder images
    datasets  a column objects: in metadata.jsonl beside pictures, in parquet, in a saved folder
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from stackwise.marks import first_entries, is_named, is_path
from stackwise.tasks.images.marks import ENDINGS, PARQUET

Kind = Literal["coco", "voc", "yolo", "records"]
OBJECTS = "objects"
"""The column of `datasets` that holds boxes and their classes."""
BEGINNING = 1 << 16
LINES = "metadata.jsonl"
YAML = (".yaml", ".yml")


def recognises(source: Any) -> float:
    """A named set and annotations in one of four formats surely; other folders not at all."""
    if not is_path(source):
        return 0.0
    if is_named(source, "detection"):
        return 1.0
    return 0.0 if kind_of(Path(os.fspath(source))) is None else 0.97


def kind_of(path: Path) -> Kind | None:
    """The format in which a file or folder annotates pictures; None where it does not."""
    if path.is_file():
        return _file_kind(path)
    if not path.is_dir():
        return None
    files, folders = first_entries(path)
    below = [first_entries(folder) for folder in folders]
    if {"dataset_dict.json", "state.json"} & {file.name for file in files}:
        places = [path, *folders]
        return (
            "records" if any(_names_objects(one / "dataset_info.json") for one in places) else None
        )
    if any(file.suffix.lower() in YAML and _is_yolo(file) for file in files):
        return "yolo"
    listed = [*files, *(file for found, _ in below for file in found)]
    for file in listed:
        if file.suffix.lower() == ".json" and is_coco(file):
            return "coco"
        if file.name == LINES and _names_objects(file):
            return "records"
        if file.suffix.lower() in PARQUET and _names_objects(file, end=True):
            return "records"
    if any(is_voc(file) for file in listed if file.suffix.lower() == ".xml"):
        return "voc"
    if any(folder.name == "labels" for folder in _deep(folders, below)):
        return "yolo"
    pictures = {file.stem for file in listed if file.suffix.lower() in ENDINGS}
    texts = [file for file in listed if file.suffix.lower() == ".txt" and file.stem in pictures]
    return "yolo" if texts and all(is_yolo_text(file) for file in texts[:5]) else None


def _file_kind(path: Path) -> Kind | None:
    ending = path.suffix.lower()
    if ending == ".json":
        return "coco" if is_coco(path) else None
    if ending in YAML:
        return "yolo" if _is_yolo(path) else None
    if ending in PARQUET:
        return "records" if _names_objects(path, end=True) else None
    return None


def is_coco(path: Path) -> bool:
    """Whether a JSON file has the fields of COCO, as far as its beginning and its end tell."""
    text = _beginning(path) + _end(path)
    return b'"annotations"' in text and (b'"images"' in text or b'"categories"' in text)


def is_voc(path: Path) -> bool:
    """Whether an XML file is an annotation."""
    return b"<annotation" in _beginning(path, 2048)


def is_yolo_text(path: Path) -> bool:
    """Whether a text file's first line is a class and four shares."""
    words = _beginning(path, 4096).partition(b"\n")[0].split()
    try:
        shares = [float(word) for word in words[1:5]]
        return len(words) == 5 and int(words[0]) >= 0 and all(-1 <= one <= 2 for one in shares)
    except ValueError:
        return False


def _is_yolo(path: Path) -> bool:
    text = b"\n" + _beginning(path)
    return b"\nnames:" in text and (b"\ntrain:" in text or b"\nval:" in text)


def _deep(folders: list[Path], below: list[Any]) -> Iterator[Path]:
    yield from folders
    for _, deeper in below:
        yield from deeper


def _names_objects(path: Path, *, end: bool = False) -> bool:
    text = _end(path) if end else _beginning(path)
    return b'"objects"' in text and b'"bbox"' in text if not end else (
        b"objects" in text and b"bbox" in text
    )  # fmt: skip


def _beginning(path: Path, most: int = BEGINNING) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError:
        return b""


def _end(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(max(path.stat().st_size - BEGINNING, 0))
            return file.read(BEGINNING)
    except OSError:
        return b""
