"""Read Pascal VOC's XML: a file a picture, with an `object` of `name` and `bndbox` for each box.

The picture is the one that `filename` names, or the one called as the file, beside it or in
JPEGImages or images beside Annotations. ImageSets/Main says the parts where it is there; else
folders named train, validation or test do. Pixels count from 1 in VOC's own sets: a box of
(1, 1, 500, 375) fills its picture, and the pixel that it lacks at the left and above is let be.
"""

import xml.etree.ElementTree as ET
from pathlib import Path

from stackwise.errors import DataError
from stackwise.tasks.detection.boxes import Boxes
from stackwise.tasks.detection.marks import is_voc
from stackwise.tasks.detection.reading.annotated import (
    Gathered,
    boxes_of,
    first_there,
    lacking_note,
)
from stackwise.tasks.images.marks import ENDINGS, PICTURE
from stackwise.tasks.labelled.folders import files_below
from stackwise.tasks.labelled.found import PARTS, Found, count

SIDES = ("xmin", "ymin", "xmax", "ymax")
MOST_BYTES = 1 << 24


def find_voc(source: Path) -> Found:
    """The pictures of a folder of annotations.

    Raises:
        DataError: a file is damaged, or an object has no name or no box.
    """
    files = [file for file in files_below(source, (".xml",), "annotation").files if is_voc(file)]
    listed = _listed(source)
    gathered, lacking, used = Gathered(), list[str](), set[Path]()
    for file in files:
        root = parsed(file)
        picture = _picture(file, root.findtext("filename") or "")
        if picture is None:
            lacking.append(root.findtext("filename") or file.stem)
            continue
        part = listed.get(file.stem) if listed else _part(file, source)
        if listed and part is None:
            continue
        used.add(picture)
        gathered.add(picture, str(picture.relative_to(source)) if picture.is_relative_to(source)
                     else str(picture), _boxes(root, file), part)  # fmt: skip
    gathered.notes += lacking_note(lacking)
    every = files_below(source, ENDINGS, PICTURE).files
    bare = [one for one in every if one not in used]
    if bare and not listed:
        gathered.notes.append(
            f"{count(len(bare), PICTURE)} without an annotation left out, such as {bare[0].name}"
        )
    return gathered.found(source)


def parsed(file: Path) -> ET.Element:
    """The root of an annotation. A document type, by which a file could make itself huge, is
    refused.

    Raises:
        DataError: it is damaged.
    """
    try:
        text = file.read_bytes()
        if len(text) > MOST_BYTES or b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise DataError(f"{file} is no annotation: it is too large or declares a document type")
        return ET.fromstring(text)
    except (ET.ParseError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None


def _boxes(root: ET.Element, file: Path) -> Boxes:
    rows, labels = [], []
    for place, one in enumerate(root.iter("object"), 1):
        name, box = (one.findtext("name") or "").strip(), one.find("bndbox")
        if not name:
            raise DataError(f"object {place} of {file} has no name")
        if box is None:
            raise DataError(f"object {place} of {file} has no bndbox")
        try:
            rows.append([float(box.findtext(side) or "") for side in SIDES])
        except ValueError:
            raise DataError(
                f"object {place} of {file} has a bndbox without the numbers {', '.join(SIDES)}"
            ) from None
        labels.append(name)
    return boxes_of(rows, labels, [False] * len(rows))


def _picture(file: Path, said: str) -> Path | None:
    name = Path(said.replace("\\", "/")).name
    folders = [file.parent, file.parent.parent / "JPEGImages", file.parent.parent / "images",
               file.parent.parent]  # fmt: skip
    names = [name, *(file.stem + ending for ending in ENDINGS),
             *(file.stem + ending.upper() for ending in ENDINGS)]  # fmt: skip
    return first_there([folder / one for folder in folders for one in names if one])


def _listed(source: Path) -> dict[str, str]:
    """The parts that ImageSets/Main says, by the stems of pictures."""
    folder = source / "ImageSets" / "Main"
    found: dict[str, str] = {}
    for file in sorted(folder.glob("*.txt")) if folder.is_dir() else []:
        part = PARTS.get(file.stem.lower())
        if part is not None:
            words = (line.split() for line in file.read_text(encoding="utf-8").splitlines())
            found |= {line[0]: part for line in words if line}
    return found


def _part(file: Path, source: Path) -> str | None:
    for name in reversed(file.relative_to(source).parts[:-1]):
        if name.lower() in PARTS:
            return PARTS[name.lower()]
    return None
