"""Read pictures that lie in the rows of a table: parquet, a folder of `datasets`, the hub.

A column of pictures holds `{"bytes": ..., "path": ...}`, as `datasets` writes them, or bytes. They
stay packed until they are decoded, and on the disk where `datasets` saved them. A path instead of
bytes is read only below the source's own folder: the table may come from a stranger.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from stackwise.errors import DataError
from stackwise.tasks.images.reading.decode import BadPicture, Content
from stackwise.tasks.labelled.found import PARTS, Found, labels_among, objects, some
from stackwise.tasks.language.records import opened_dataset
from stackwise.tasks.table.source import read_table


class PackedPictures(Sequence[Content]):
    """The pictures of a column, unpacked one by one.

    Args:
        column: of structs of bytes and path, or of bytes.
        root: the folder below which a path is read; None for any, where `datasets` put them.
    """

    def __init__(self, column: pa.ChunkedArray, root: Path | None) -> None:
        self.column = column
        self.root = root

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, row: int) -> Content: ...
    @overload
    def __getitem__(self, row: slice) -> "PackedPictures": ...
    def __getitem__(self, row: int | slice) -> "Content | PackedPictures":
        if isinstance(row, slice):
            return PackedPictures(self.column.take(range(len(self))[row]), self.root)
        held = self.column[row].as_py()
        if not isinstance(held, dict):
            return held or b""
        if held.get("bytes") is not None or not held.get("path"):
            return held.get("bytes") or b""
        path = Path(held["path"])
        if self.root is not None:
            path = self.root / path
            if ".." in path.parts or not path.is_relative_to(self.root):
                raise BadPicture(f"{held['path']!r} in row {row} is no file below {self.root}")
        return path


def find_in_parquet(files: Mapping[Path, str | None], target: str | None, *, needed: bool) -> Found:
    """The pictures of parquet files.

    Args:
        files: each with its part, or None.
        needed: whether the column `target` must be there.

    Raises:
        DataError: a file is damaged, or has no column of pictures, or no column `target`.
    """
    import pyarrow.parquet as pq

    tables, needed_bytes = [], 0
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
                needed_bytes += sum(group.total_byte_size for group in groups)
                if needed_bytes > psutil.virtual_memory().available:
                    raise DataError(
                        f"{path} unpacks to more memory than is free; save it with save_to_disk of "
                        "datasets, from where pictures are read one by one"
                    )
                tables.append(file.read())
        except (pa.ArrowException, ValueError, OSError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path} cannot be read: {_first_line(error)}") from error
    listed = list(files)
    what = str(listed[0]) if len(listed) == 1 else some([str(path) for path in listed])
    return _found(tables, list(files.values()), listed[0].parent, target, what, needed)


def find_in_datasets(source: str, target: str | None, *, hub: bool, needed: bool) -> Found:
    """The pictures of a folder that `datasets` saved, or of a data set of the hub.

    Raises:
        NotInstalled: `datasets` is not here.
        DataError: it cannot be loaded, or as for `find_in_parquet`.
    """
    loaded = opened_dataset(source, hub=hub)
    import datasets

    parts = {None: loaded} if isinstance(loaded, datasets.Dataset) else dict(loaded)
    tables = [part.with_format("arrow")[:] for part in parts.values()]
    named = [None if name is None else PARTS.get(str(name).lower()) for name in parts]
    if len(parts) > 1 and None in named:
        strange = next(name for name in parts if str(name).lower() not in PARTS)
        raise DataError(f"{source} has a part {strange!r}, which is no train, validation or test")
    return _found(tables, named, None if hub else Path(source), target, source, needed)


def _found(
    tables: list[pa.Table], parts: list[str | None], root: Path | None, target: str | None,
    what: str, needed: bool,
) -> Found:  # fmt: skip
    column = picture_column(tables[0].schema, what)
    if any(table.schema.names != tables[0].schema.names for table in tables):
        raise DataError(f"the parts of {what} have different columns")
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"the parts of {what} do not fit together: {_first_line(error)}") from error
    if not len(table):
        raise DataError(f"{what} holds no pictures")
    frame = _other_columns(table, column, _class_names(tables[0].schema))
    lengths = [len(part) for part in tables]
    has_parts = len(parts) > 1 and None not in parts
    of_part = [part for part, length in zip(parts, lengths) for _ in range(length)]
    return Found(
        PackedPictures(table[column], root),
        _names(table[column], of_part if has_parts else None),
        labels_among(frame, target, what, needed=needed),
        objects(of_part) if has_parts else None,
        frame,
    )


def picture_column(schema: pa.Schema, what: str) -> str:
    """The column of pictures: the one that `datasets` calls so, of bytes and path, or of bytes.

    Of several, the one called image.
    """
    features = features_of(schema)
    declared = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    structs = [
        one.name for one in schema
        if pa.types.is_struct(one.type) and one.type.get_field_index("bytes") >= 0
    ]  # fmt: skip
    packed = [one.name for one in schema
              if pa.types.is_binary(one.type) or pa.types.is_large_binary(one.type)]  # fmt: skip
    found = declared or structs or packed
    if len(found) == 1:
        return found[0]
    if "image" in found:
        return "image"
    if found:
        raise DataError(f"{what} has several columns of pictures ({some(found)}); call one image")
    raise DataError(f"{what} has no column of pictures; it has {some(schema.names, 8)}")


def features_of(schema: pa.Schema) -> dict[str, Any]:
    """What `datasets` wrote of each column; nothing where it did not."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: of for name, of in features.items() if isinstance(of, dict)}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return {}


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    return {
        name: [str(one) for one in of["names"]]
        for name, of in features_of(schema).items()
        if of.get("_type") == "ClassLabel" and isinstance(of.get("names"), list)
    }


def _other_columns(table: pa.Table, pictures: str, names: dict[str, list[str]]) -> pd.DataFrame:
    """The flat columns beside the pictures, classes by their names instead of their numbers."""
    nested = {one.name for one in table.schema if pa.types.is_nested(one.type)}
    flat = table.drop_columns(list({pictures, *nested}))
    if not flat.column_names:
        return pd.DataFrame(index=pd.RangeIndex(len(table)))
    frame = read_table(flat)
    for column in set(names) & set(frame.columns):
        by_number = dict(enumerate(names[column]))
        frame[column] = objects(by_number.get(code) for code in frame[column])
    return frame


def _names(column: pa.ChunkedArray, parts: list[str | None] | None) -> list[str]:
    """The path of each where all have their own, else its row; below its part."""
    names = [str(row) for row in range(len(column))]
    if pa.types.is_struct(column.type) and column.type.get_field_index("path") >= 0:
        paths = pc.call_function(
            "struct_field", [column], pc.StructFieldOptions("path")
        ).to_pylist()
        within = list(zip(parts or paths, paths))
        if None not in paths and len(set(within)) == len(paths):
            names = [Path(path).name if Path(path).is_absolute() else path for path in paths]
    return names if parts is None else [f"{part}/{name}" for part, name in zip(parts, names)]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
