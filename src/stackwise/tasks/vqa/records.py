"""Read questions about pictures: a record each, in any file of records.

    {"image": "scans/17.png", "question": "what is in row 2?", "answer": "K", "kind": "cell"}

`image` is a path (beside the file, or absolute), in Python also an array or a picture of pillow, in
Parquet the bytes that `datasets` keeps. `kind` says what kind of question it is; else its first two
words do. `part` (train, validation, test) says where a record belongs.
"""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from stackwise.errors import DataError
from stackwise.marks import is_named
from stackwise.tasks.images.reading.arrays import as_pictures
from stackwise.tasks.images.reading.decode import Content
from stackwise.tasks.language.content import is_given, text_of
from stackwise.tasks.language.records import ENDINGS, is_saved_dataset, records_of
from stackwise.tasks.vqa.marks import PICTURES

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Asked:
    """A question about a picture.

    Attributes:
        row: its number in the source. name: what the picture is called.
        key: equal where two questions are about one picture.
        picture: not decoded yet.
        answer: an empty text where the source was not asked for it.
        kind: of question. part: where the source says that it belongs, or None.
    """

    row: int
    name: str
    key: str
    picture: Content
    question: str
    answer: str
    kind: str
    part: str | None = None


def read_asked(
    source: Any,
    *,
    image: str | None = None,
    question: str = "question",
    answer: str = "answer",
    kind: str = "kind",
    answered: bool = True,
) -> list[Asked]:
    """The questions of a source.

    Args:
        source: a list of dicts, a frame, a file of records, a folder that `datasets` saved, or a
            named set.
        image: the field of the picture; found by its name without.
        answered: whether every question must have an answer; if not, none is read.

    Raises:
        DataError: a record lacks a field, or its picture is none; the sentence names it.
    """
    folder, rows = _rows(source)
    found: list[Asked] = []
    for place, row in rows:
        found.append(_read(len(found), place, row, folder, image, question, answer, kind, answered))
    if not found:
        raise DataError("there are no questions about pictures in this source")
    said = {one.part for one in found}
    if None in said and len(said) > 1:
        lacking = next(one for one in found if one.part is None)
        raise DataError(
            f"question {lacking.row + 1} has no 'part', and others have; give all or none"
        )
    return found


def kind_of(question: str) -> str:
    """The kind of a question that says none: its first two words."""
    return " ".join(question.lower().split()[:2])


def _rows(source: Any) -> tuple[Path | None, list[tuple[str, Any]]]:
    """The folder by which paths are meant, and the records with their places."""
    if not isinstance(source, (str, os.PathLike)):
        return None, _placed(source)
    if is_named(source, "vqa"):
        from stackwise import data

        return None, _placed(data.vqa(os.fspath(source)))
    path = Path(os.fspath(source))
    if not path.is_file() and not is_saved_dataset(path):
        raise DataError(
            f"{path} is no file and no named set; give records with a picture, a question and an "
            "answer as JSON lines"
        )
    if path.is_file() and path.suffix.lower() not in ENDINGS:
        raise DataError(f"{path} holds no records by its name ({', '.join(ENDINGS)})")
    return path.parent, list(records_of(path))


def _placed(source: Any) -> list[tuple[str, Any]]:
    """Records in memory; those of a list as they are, for a picture may be an array."""
    if isinstance(source, (list, tuple)):
        return [("", row) for row in source]
    return list(records_of(source))


def _read(
    number: int, place: str, row: Any, folder: Path | None, image: str | None, question: str,
    answer: str, kind: str, answered: bool,
) -> Asked:  # fmt: skip
    where = f"question {number + 1}" + (f" ({place})" if place else "")
    if isinstance(row, Asked):
        return Asked(number, row.name, row.key, row.picture, row.question, row.answer, row.kind)
    if not isinstance(row, Mapping):
        raise DataError(f"{where} is a {type(row).__name__}, not a set of fields")
    names = PICTURES if image is None else (image,)
    field = next((name for name in names if row.get(name) is not None), None)
    for name in (field or names[0], question, *([answer] if answered else ())):
        held = row.get(name)
        if field is None or (name != field and not is_given(held)):
            lacks = name if field is not None else names[0]
            listed = ", ".join(map(str, list(row)[:8])) or "nothing"
            raise DataError(f"{where} has no {lacks!r}; it has {listed}")
    assert field is not None
    content, name, key = _picture(row[field], folder, f"the {field!r} of {where}", number)
    text = text_of(row[question], f"the {question!r} of {where}")
    told = text_of(row[answer], f"the {answer!r} of {where}").strip() if answered else ""
    asked_kind = row.get(kind)
    part = row.get("part")
    if part is not None and part not in PARTS:
        raise DataError(f"the 'part' of {where} is {part!r}; it is train, validation or test")
    return Asked(
        number, name, key, content, text, told,
        str(asked_kind) if is_given(asked_kind) else kind_of(text), part,
    )  # fmt: skip


def _picture(held: Any, folder: Path | None, what: str, number: int) -> tuple[Content, str, str]:
    """(what is decoded, its name, what tells it from others)."""
    if isinstance(held, Mapping):  # as `datasets` keeps one
        held = held.get("bytes") or held.get("path")
    if isinstance(held, bytes):
        return held, f"picture {number + 1}", f"bytes {xxhash.xxh3_64_hexdigest(held)}"
    if isinstance(held, (str, os.PathLike)):
        path = Path(os.fspath(held))
        if folder is not None and not path.is_absolute():
            path = folder / path
        return path, os.fspath(held), str(path)
    if hasattr(held, "save") and hasattr(held, "mode"):  # a picture of pillow
        file = io.BytesIO()
        held.save(file, "PNG")
        return file.getvalue(), f"picture {number + 1}", f"object {id(held)}"
    if isinstance(held, np.ndarray) and held.ndim in (2, 3):
        array = held[..., None] if held.ndim == 2 else held
        return as_pictures(array[None])[0], f"picture {number + 1}", f"array {id(held)}"
    raise DataError(f"{what} is a {type(held).__name__}; give a path, an array or a picture")


def group_of(asked: Sequence[Asked]) -> np.ndarray:
    """(n,) the number of each question's picture, in the order of their first questions."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(one.key, len(numbers)) for one in asked], dtype=np.int64)
