"""Read texts and their labels from a source, of whichever kind it is.

reviews.jsonl, .json, .csv, .parquet, .arrow    a record each, with a field of text and one of
                                                labels
reviews/good/1.txt                              a folder a class; parts above them or not
a folder of `datasets`, hf://owner/name         classes by their names; its parts are the parts
a named set (`stackwise data`)
in Python a list of records, a frame, or (texts, labels)
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError, nearest
from stackwise.tasks.labelled.folders import find_in_folders
from stackwise.tasks.labelled.found import PARTS, Found, objects, some
from stackwise.tasks.labels.marks import ENDINGS, LABELS, TEXT, TEXTS, field_of
from stackwise.tasks.language.content import is_given, text_of
from stackwise.tasks.language.encoding import plain_text
from stackwise.tasks.language.records import (
    fields_of,
    is_records,
    is_saved_dataset,
    opened_dataset,
    records_of,
)

HUB = "hf://"


def find_texts(
    source: Any, *, field: str | None = None, target: str | None = None, labelled: bool = True
) -> Found:
    """The texts of a source and what is known of each; a blank text is None.

    Args:
        source: see above; where labels are not needed also a list of texts, or a text file, each
            line of which is one.
        field, target: of records, the fields of text and label; else found by their usual names.
        labelled: whether labels are needed; else they are not read.

    Raises:
        DataError: it cannot be read, or has no such field; the sentence says which it has.
    """
    found = _found(source, field, target, labelled)
    if labelled and found.labels is None:
        what = source if isinstance(source, (str, os.PathLike)) else "this source"
        raise DataError(
            f"{what} has no labels: put the texts of each class into a folder of its own, or give "
            "records with a text and a label each"
        )
    return found


def _found(source: Any, field: str | None, target: str | None, labelled: bool) -> Found:
    if isinstance(source, tuple) and len(source) == 2 and not isinstance(source[0], str):
        return _pair(*source)
    if isinstance(source, (list, tuple)) and source and all(isinstance(t, str) for t in source):
        return _unlabelled([(f"text {n}", text) for n, text in enumerate(source, start=1)])
    if not isinstance(source, (str, os.PathLike)):
        what = f"this {type(source).__name__}"
        return _of_records(list(records_of(source)), what, field, target, labelled)
    name = os.fspath(source)
    path = Path(name)
    if name.startswith(HUB) or is_saved_dataset(path):
        return _of_dataset(name, field, target, labelled)
    if path.is_dir():
        return _of_folder(path)
    if path.is_file():
        if is_records(path):
            return _of_records(list(records_of(path)), name, field, target, labelled)
        if path.suffix.lower() in ENDINGS:
            lines = plain_text(path).split("\n")
            numbered = ((f"line {n}", line) for n, line in enumerate(lines, start=1))
            return _unlabelled([(at, line) for at, line in numbered if line.strip()])
        raise DataError(
            f"{path} is no source of texts by its name; give JSON lines, a table or a folder"
        )
    from stackwise import data

    known = {entry.name for entry in data.names("labels")}
    if name in known:
        return _pair(*data.labels(name))
    raise DataError(
        f"there is no folder, file or set of labelled texts {name!r}.{nearest(name, known)}"
    )


def _pair(texts: Any, labels: Any) -> Found:
    """Texts and labels side by side."""
    read = list(texts)
    told = list(labels)
    if len(read) != len(told):
        raise DataError(f"there are {len(read)} texts and {len(told)} labels; give one for each")
    kept = [_text(one, f"text {n}") for n, one in enumerate(read, start=1)]
    names = [str(n) for n in range(len(read))]
    return Found(kept, names, _labels((f"label {n}", one) for n, one in enumerate(told, start=1)))


def _unlabelled(texts: Sequence[tuple[str, str]]) -> Found:
    return Found([_text(text, at) for at, text in texts], [at for at, _ in texts])


def _of_folder(folder: Path) -> Found:
    found = find_in_folders(folder, ENDINGS, TEXT)
    found.samples = [_text(plain_text(path), str(path)) for path in found.samples]
    return found


def _of_dataset(name: str, field: str | None, target: str | None, labelled: bool) -> Found:
    """A data set of `datasets`, its classes by their names, its parts as parts."""
    hub = name.startswith(HUB)
    loaded = opened_dataset(name.removeprefix(HUB).removeprefix("datasets/"), hub=hub)
    import datasets

    parts = {None: loaded} if isinstance(loaded, datasets.Dataset) else dict(loaded)
    of_part = [PARTS.get(str(part).lower()) for part in parts]
    if len(parts) > 1 and None in of_part:
        strange = next(part for part in parts if str(part).lower() not in PARTS)
        raise DataError(f"{name} has a part {strange!r}, which is no train, validation or test")
    rows: list[tuple[str, Any]] = []
    named: list[str | None] = []
    for (part, held), known in zip(parts.items(), of_part, strict=True):
        classes = {
            column: of.names for column, of in held.features.items()
            if isinstance(of, datasets.ClassLabel)
        }  # fmt: skip
        for number, (_, row) in enumerate(records_of(held), start=1):
            at = f"row {number} of {part or name}"
            rows.append((at, {key: _class_name(classes, key, row[key]) for key in row}))
            named.append(known)
    found = _of_records(rows, name, field, target, labelled)
    found.parts = objects(named) if None not in named else None
    return found


def _class_name(classes: Mapping[str, Sequence[str]], column: str, value: Any) -> Any:
    """A class by its name; -1 stands for a label that is not known."""
    if column not in classes or value is None:
        return value
    return classes[column][value] if value >= 0 else None


def _of_records(
    rows: Sequence[tuple[str, Any]], what: str, field: str | None, target: str | None,
    labelled: bool,
) -> Found:  # fmt: skip
    if not rows:
        raise DataError(f"{what} holds no texts")
    places = [at or f"record {number}" for number, (at, _) in enumerate(rows, start=1)]
    records = [fields_of(row, at) for at, (_, row) in zip(places, rows, strict=True)]
    named = list(dict.fromkeys(str(key) for row in records[:1000] for key in row))
    text = _chosen(field, named, TEXTS, what, "the text", "--field")
    samples = [_text(row.get(text), f"the {text!r} of {at}") for at, row in zip(places, records)]
    labels = None
    if labelled:
        label = _chosen(target, named, LABELS, what, "the label", "--target")
        if label == text:
            raise DataError(f"{label!r} cannot be the text and the label; name two fields")
        labels = _labels((f"the {label!r} of {at}", row.get(label)) for at, row in
                         zip(places, records))  # fmt: skip
    plain = (str, int, float, bool, type(None))
    columns = {
        name: objects(row.get(name) for row in records) for name in named
        if name != text and all(isinstance(row.get(name), plain) for row in records)
    }  # fmt: skip
    return Found(samples, places, labels, columns=pd.DataFrame(columns))


def _chosen(
    wanted: str | None, named: Sequence[str], usual: tuple[str, ...], what: str, role: str,
    option: str,
) -> str:  # fmt: skip
    """The field that was named, or the first usual one."""
    if wanted is not None:
        if wanted not in named:
            raise DataError(f"{what} has no field {wanted!r}.{nearest(wanted, named)}")
        return wanted
    found = field_of(named, usual)
    if found is None:
        raise DataError(
            f"{what} does not say which of its fields is {role} (it has {some(named, 8)}); name it "
            f"with {option}"
        )
    return found


def _text(value: Any, what: str) -> str | None:
    """A text; None where it is blank."""
    if not is_given(value):
        return None
    read = text_of(value, what)
    return read if read.strip() else None


def _labels(told: Iterator[tuple[str, Any]]) -> np.ndarray:
    """(n,) a class each, None where it is not known.

    Raises:
        DataError: a label is a number with a fraction, or several things.
    """
    return objects([_label(value, what) for what, value in told])


def _label(value: Any, what: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if not is_given(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, (str, int)):
        raise DataError(f"{what} is {value!r}, and a label is a class: a text or a whole number")
    return value.strip() or None if isinstance(value, str) else value
