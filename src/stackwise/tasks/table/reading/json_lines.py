"""Read JSON lines, or an array of objects: names as they stand, numbers exact, `null` missing."""

import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from stackwise.errors import DataError
from stackwise.tasks.table.reading.separated import encoding_of, first_line, opened


def read_lines(path: Path, encoding: str | None, rows: int | None) -> Iterator[pd.DataFrame]:
    """The table, whole or in pieces of `rows` rows.

    Lines end at a line feed and nowhere else: a text may hold U+2028. A key that some objects lack
    is missing there.

    Raises:
        DataError: a line is no object, or has a key twice.
        UnicodeError: the file is in another encoding.
    """
    name = encoding_of(path, encoding)
    with opened(path) as packed, io.TextIOWrapper(packed.handle, name, newline="\n") as file:
        start = file.read(64).lstrip()[:1]
        file.seek(0)
        try:
            if start == "[" and ".json" in path.suffixes:
                yield _frame(path, _checked(path, json.load(file, object_pairs_hook=_object)), [])
                return
            records = (_record(path, place, line) for place, line in enumerate(file, start=1)
                       if line.strip())  # fmt: skip
            names: list[str] = []
            if rows is None:
                yield _frame(path, list(records), names)
                return
            while piece := list(islice(records, rows)):
                yield _frame(path, piece, names)
        except (UnicodeError, DataError):
            raise
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path} is not json lines, one object a line: {first_line(error)}"
            ) from error


def _record(path: Path, place: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line, object_pairs_hook=_object)
    except ValueError as error:
        raise DataError(
            f"{path} is not json lines, one object a line: line {place}: {first_line(error)}"
        ) from error
    if not isinstance(record, dict):
        raise DataError(f"{path} is not json lines, one object a line: line {place} is no object")
    return record


def _checked(path: Path, records: Any) -> list[dict[str, Any]]:
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{path} is not json lines, one object a line, nor an array of objects")
    return records


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, whose keys must differ: else one of two values would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in an object")
    return found


def _frame(path: Path, records: list[dict[str, Any]], names: list[str]) -> pd.DataFrame:
    """Columns in the order in which the keys appear; `names` grows by the new ones."""
    _learn(names, records)
    columns = {
        name: pd.Series([record.get(name) for record in records], dtype=object) for name in names
    }
    return pd.DataFrame(columns)


def _learn(names: list[str], records: Iterable[dict[str, Any]]) -> None:
    known = set(names)
    for record in records:
        for name in record.keys() - known if record.keys() <= known else record:
            if name not in known:
                known.add(name)
                names.append(name)
