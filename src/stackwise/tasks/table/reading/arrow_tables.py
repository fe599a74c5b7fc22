"""Read parquet and arrow files, and tables in memory: by their own types, never by side notes.

pandas writes into a file how its frame looked. Of that only one thing is believed: that a column
was declared a category. A named index is a column like the others; a note that is damaged, or was
written for another table, changes nothing.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stackwise.errors import DataError
from stackwise.tasks.file_starts import arrow_batches
from stackwise.tasks.table.reading.plain import series_of
from stackwise.tasks.table.reading.separated import first_line, no_repeats

_BROKEN = (pa.ArrowException, ValueError, KeyError, TypeError)


def read_parquet(path: Path, rows: int | None) -> Iterator[pd.DataFrame]:
    """The table of a parquet file, whole or in pieces of `rows` rows.

    Raises:
        DataError: it cannot be read; the sentence names it.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if rows is None:
                yield frame_of(file.read(), path)
            else:
                for batch in file.iter_batches(batch_size=rows):
                    yield frame_of(pa.Table.from_batches([batch]), path)
    except (*_BROKEN, OSError) as error:
        raise _unreadable(path, "parquet", error) from error


def read_arrow(path: Path, rows: int | None) -> Iterator[pd.DataFrame]:
    """The table of an arrow file or stream, whole or in pieces of `rows` rows.

    Raises:
        DataError: it cannot be read; the sentence names it.
    """
    try:
        with arrow_batches(path) as (schema, batches):
            no_repeats(path, schema.names)
            if rows is None:
                yield frame_of(pa.Table.from_batches(batches, schema), path)
            else:
                for batch in batches:
                    for start in range(0, batch.num_rows, rows):
                        yield frame_of(pa.Table.from_batches([batch.slice(start, rows)]), path)
    except (*_BROKEN, OSError) as error:
        raise _unreadable(path, "arrow", error) from error


def frame_of(table: "pa.Table", path: Path | str = "the table") -> pd.DataFrame:
    """A table as a frame: every column, a named index too, in its exact values.

    Raises:
        DataError: two columns have one name.
    """
    no_repeats(path, table.column_names)
    note = _note(table)
    unnamed = {name for name in table.column_names if name.startswith("__index_level_")}
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in unnamed & set(map(str, note.get("index_columns", []))):
            continue
        series = series_of(column)
        columns[name] = series.astype("category") if name in _categories(note) else series
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table)))


def _note(table: "pa.Table") -> dict[str, Any]:
    """What pandas wrote beside the table; nothing where it is no such note."""
    try:
        note = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    except (ValueError, RecursionError):
        return {}
    lists = isinstance(note, dict) and all(
        isinstance(note.get(key, []), list) for key in ("columns", "index_columns")
    )
    return note if lists else {}


def _categories(note: dict[str, Any]) -> set[str]:
    return {
        str(item.get("field_name"))
        for item in note.get("columns", [])
        if isinstance(item, dict) and item.get("pandas_type") == "categorical"
    }


def _unreadable(path: Path, what: str, error: Exception) -> Exception:
    if isinstance(error, (DataError, PermissionError, FileNotFoundError, IsADirectoryError)):
        return error
    return DataError(f"{path} is no readable {what} file: {first_line(error)}")
