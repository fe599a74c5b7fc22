"""Read what `datasets` writes: a column of pictures, and a column `objects` of boxes and classes.

    objects     {"bbox": [[x, y, width, height], ...], "category": [3, ...]}

or a list of such with one box each; the classes under category, categories, label or labels, names
or the numbers of a ClassLabel. It stands in parquet, in a folder that `datasets` saved, or in
metadata.jsonl beside the pictures.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stackwise.errors import DataError
from stackwise.tasks.detection.marks import LINES, OBJECTS
from stackwise.tasks.detection.reading.annotated import Gathered, boxes_of, lacking_note
from stackwise.tasks.images.marks import PARQUET
from stackwise.tasks.images.reading.records import PackedPictures, features_of, picture_column
from stackwise.tasks.labelled.found import PARTS, Found
from stackwise.tasks.language.records import opened_dataset

CLASSES = ("category", "categories", "label", "labels", "category_id")


def find_records(source: Path) -> Found:
    """The pictures of such a source.

    Raises:
        DataError: it is damaged, or a picture's objects are no boxes and classes.
    """
    if source.is_dir():
        lines = [source / LINES, *sorted(source.glob(f"*/{LINES}"))]
        lines = [file for file in lines if file.is_file()]
        if lines:
            return _beside(source, lines)
        if (source / "dataset_dict.json").is_file() or (source / "state.json").is_file():
            return _saved(source)
        files = sorted(file for file in source.iterdir() if file.suffix.lower() in PARQUET)
    else:
        files = [source]
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = {}
    for file in files:
        part = PARTS.get(file.stem.lower().partition("-")[0]) if len(files) > 1 else None
        try:
            tables[file.stem] = (part, pq.read_table(file))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} cannot be read: {error}") from None
    return _tables(tables, files[0].parent, source)


def _saved(source: Path) -> Found:
    loaded = opened_dataset(str(source), hub=False)
    parts = dict(loaded) if hasattr(loaded, "keys") else {"": loaded}
    tables = {
        name: (PARTS.get(name.lower()), part.with_format("arrow")[:])
        for name, part in parts.items()
    }  # fmt: skip
    return _tables(tables, source, source)


def _tables(tables: Mapping[str, Any], root: Path, source: Path) -> Found:
    gathered = Gathered()
    for part, table in tables.values():
        column = picture_column(table.schema, str(source))
        if OBJECTS not in table.column_names:
            raise DataError(f"{source} has no column {OBJECTS!r}")
        names = _class_names(features_of(table.schema).get(OBJECTS))
        pictures = PackedPictures(table[column], root)
        for row, said in enumerate(table[OBJECTS].to_pylist()):
            name = f"row {len(gathered.names)}"
            gathered.add(pictures[row], name, objects_of(said, name, names), part)
    return gathered.found(source)


def _beside(source: Path, files: Sequence[Path]) -> Found:
    gathered, lacking = Gathered(), list[str]()
    for file in files:
        part = PARTS.get(file.parent.name.lower()) if file.parent != source else None
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                name = str(record["file_name"])
            except (ValueError, KeyError, TypeError):
                raise DataError(f"line {number} of {file} names no file_name") from None
            path = file.parent / name
            if not path.is_file():
                lacking.append(name)
                continue
            boxes = objects_of(record.get(OBJECTS), f"line {number} of {file}", [])
            gathered.add(path, str(path.relative_to(source)), boxes, part)
    gathered.notes += lacking_note(lacking)
    return gathered.found(source)


def objects_of(said: Any, name: str, names: Sequence[str]) -> Any:
    """The boxes of one picture.

    Args:
        names: of a ClassLabel's numbers.

    Raises:
        DataError: there is no box, or no class, or not as many.
    """
    if said is None:
        return boxes_of([], [], [])
    if isinstance(said, Mapping):
        kind = next((key for key in CLASSES if key in said), None)
        boxes, labels = said.get("bbox"), said.get(kind) if kind else None
    elif isinstance(said, Sequence) and all(isinstance(one, Mapping) for one in said):
        boxes = [one.get("bbox") for one in said]
        labels = [next((one[key] for key in CLASSES if key in one), None) for one in said]
    else:
        boxes = labels = None
    if boxes is None or labels is None or len(boxes) != len(labels) or None in labels:
        raise DataError(
            f"the objects of {name} want a bbox and a class ({', '.join(CLASSES[:4])}) each"
        )
    if any(one is None or len(one) != 4 for one in boxes):
        raise DataError(f"a bbox of {name} is not [x, y, width, height]")
    rows = [(x, y, x + w, y + h) for x, y, w, h in boxes]
    return boxes_of(rows, [_label(one, names, name) for one in labels], [False] * len(rows))


def _label(label: Any, names: Sequence[str], where: str) -> str:
    if not names or isinstance(label, str):
        return str(label)
    if not 0 <= label < len(names):
        raise DataError(f"{where} has an object of the class {label}; there are {len(names)}")
    return names[label]


def _class_names(feature: Any) -> list[str]:
    """The names of a ClassLabel somewhere in the feature of objects."""
    if isinstance(feature, Mapping):
        if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
            return [str(one) for one in feature["names"]]
        for of in feature.values():
            if found := _class_names(of):
                return found
    elif isinstance(feature, Sequence) and not isinstance(feature, str):
        for of in feature:
            if found := _class_names(of):
                return found
    return []
