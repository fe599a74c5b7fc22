"""Read COCO's JSON: images, annotations with boxes [x, y, width, height], categories.

Pictures lie beside the file, in a folder `images`, or in one that is named as the file's end says
(`annotations/instances_val2017.json` and `val2017/`). Several files in one source are its parts, by
their names. A box that is a crowd (`iscrowd`) is not learned from, and what is found in it is
neither right nor wrong.
"""

import json
from pathlib import Path
from typing import Any

from stackwise.errors import DataError
from stackwise.tasks.detection.marks import is_coco
from stackwise.tasks.detection.reading.annotated import (
    Gathered,
    boxes_of,
    first_there,
    lacking_note,
)
from stackwise.tasks.labelled.found import PARTS, Found, some

SHAPE = {"images": list, "annotations": list, "categories": list}


def find_coco(source: Path) -> Found:
    """The pictures of a JSON file, or of all in a folder.

    Raises:
        DataError: a file is damaged, or an annotation is of a picture or a class that is not there.
    """
    files = [source] if source.is_file() else _files_in(source)
    parts = [_part_of(file, source) for file in files]
    if len(files) > 1 and None in parts:
        raise DataError(
            f"{source} holds {some([file.name for file in files])}; name each after its part, such "
            "as instances_train.json"
        )
    gathered = Gathered()
    lacking: list[str] = []
    for file, part in zip(files, parts, strict=True):
        _gather(gathered, file, part if len(files) > 1 else None, lacking)
    gathered.notes += lacking_note(lacking)
    return gathered.found(source)


def _files_in(folder: Path) -> list[Path]:
    below = [folder, *sorted(one for one in folder.iterdir() if one.is_dir())]
    return [
        file for place in below for file in sorted(place.glob("*.json")) if is_coco(file)
    ]  # fmt: skip


def _part_of(file: Path, source: Path) -> str | None:
    """The part that a file's name, or that of its folder, says."""
    words = file.stem.lower().replace("-", "_").split("_")
    if file.parent != source:
        words.append(file.parent.name.lower())
    for word in words:
        found = PARTS.get(word.rstrip("0123456789"))
        if found is not None:
            return found
    return None


def _gather(gathered: Gathered, file: Path, part: str | None, lacking: list[str]) -> None:
    content = _content(file)
    names = {one["id"]: str(one["name"]) for one in content["categories"]}
    twice = len(set(names.values())) < len(names)
    if twice:
        raise DataError(f"{file} names two categories alike: {some(sorted(names.values()), 8)}")
    gathered.categories |= {name: number for number, name in names.items()}
    of: dict[Any, list[Any]] = {one["id"]: [] for one in content["images"]}
    if len(of) < len(content["images"]):
        raise DataError(f"{file} has two images of one id")
    for one in content["annotations"]:
        if one["image_id"] not in of:
            raise DataError(f"{file} annotates the image {one['image_id']}, which it does not list")
        if one["category_id"] not in names:
            raise DataError(
                f"annotation {one.get('id')} of {file} is of the category {one['category_id']}, "
                f"which is none of {some(sorted(map(str, names)), 8)}"
            )
        if not isinstance(one.get("bbox"), list) or len(one["bbox"]) != 4:
            raise DataError(f"annotation {one.get('id')} of {file} has no bbox of four numbers")
        of[one["image_id"]].append(one)
    roots = _roots(file)
    for image in content["images"]:
        name = str(image["file_name"])
        path = first_there([root / name for root in roots])
        if path is None:
            lacking.append(name)
            continue
        rows = [(x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in of[image["id"]])]
        labels = [names[one["category_id"]] for one in of[image["id"]]]
        crowd = [bool(one.get("iscrowd", 0)) for one in of[image["id"]]]
        gathered.add(path, name, boxes_of(rows, labels, crowd), part, image["id"])


def _content(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    for name, kind in SHAPE.items():
        if not isinstance(found, dict) or not isinstance(found.get(name), kind):
            raise DataError(f"{file} is no COCO: it has no list {name!r}")
    fields = {
        "images": ("id", "file_name"), "annotations": ("image_id", "category_id"),
        "categories": ("id", "name"),
    }  # fmt: skip
    for name, needed in fields.items():
        for row, one in enumerate(found[name]):
            if not isinstance(one, dict) or any(field not in one for field in needed):
                raise DataError(
                    f"{name}[{row}] of {file} lacks {' or '.join(map(repr, needed))}"
                )  # fmt: skip
    return dict(found)


def _roots(file: Path) -> list[Path]:
    """Where the pictures of a file may lie."""
    end = file.stem.rpartition("_")[2]
    near = [file.parent, file.parent.parent]
    return [root / below for root in near for below in (".", "images", end, f"images/{end}")]
