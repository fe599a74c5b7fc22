"""Records with the values that their file gives them: none is guessed, none becomes another.

    JSON lines, a JSON list     what JSON says: a number is a number, a text a text
    csv, tsv                    every cell is a text: 007, 12.50, None and 2024-01-02 too
    Parquet, Arrow              what the columns hold; lists and structs as lists and dictionaries
    a folder of `datasets`      likewise
    lists, frames               what they hold

Each record comes with its place, such as `line 3 of chats.jsonl`, for what is said of it.
"""

import contextlib
import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stackwise.errors import DataError
from stackwise.optional import needs
from stackwise.tasks.file_starts import arrow_batches
from stackwise.tasks.language.encoding import encoding_of, json_lines, plain_text

LINES = (".jsonl", ".ndjson")
SEPARATED = (".csv", ".tsv", ".tab")
PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
ENDINGS = (*LINES, ".json", *SEPARATED, *PARQUET, *ARROW)
"""Files of records."""

Placed = tuple[str, Any]
"""(where it stands, the record): the place is empty where it is a member of a list."""


def fields_of(record: Any, where: str) -> Mapping[str, Any]:
    """A record that has fields.

    Args:
        where: it stands, for the message.

    Raises:
        DataError: it is something else.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{where} is a {type(record).__name__}, not a set of fields")
    return record


def records_of(source: Any) -> Iterator[Placed]:
    """The records of a file, a folder that `datasets` saved, a list or a frame.

    Raises:
        DataError: the file is none of these, is empty or broken; the sentence names the line.
    """
    if isinstance(source, (list, tuple)):
        yield from (("", plain_value(row)) for row in source)
    elif not isinstance(source, (str, Path)):
        yield from (("", row) for row in _of_object(source))
    elif is_saved_dataset(Path(source)):
        yield from _of_dataset(Path(source))
    else:
        yield from _of_file(Path(source))


def is_records(path: Path) -> bool:
    """Whether a file holds records, by its name."""
    return path.suffix.lower() in ENDINGS


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder is one that `datasets` saved."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def plain_value(value: Any) -> Any:
    """Arrays and numbers of NumPy, within lists and dictionaries too, as those of Python; what a
    frame has for nothing as None.
    """
    if isinstance(value, Mapping):
        return {key: plain_value(inner) for key, inner in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain_value(inner) for inner in value]
    nothing = value is None or type(value).__name__ in ("NAType", "NaTType") or value != value
    return None if nothing else value


def _of_file(path: Path) -> Iterator[Placed]:
    suffix = path.suffix.lower()
    if suffix not in ENDINGS:
        raise DataError(f"{path} is no file of records; its name ends with none of {_listed()}")
    if path.is_file() and not path.stat().st_size:
        raise DataError(f"{path} is empty")
    if suffix in SEPARATED:
        yield from _separated(path)
    elif suffix in PARQUET:
        yield from _columns(path, _parquet_batches(path))
    elif suffix in ARROW:
        yield from _columns(path, _arrow_batches(path))
    elif suffix == ".json" and (whole := _json_list(path)) is not None:
        yield from ((f"item {place} of {path}", row) for place, row in enumerate(whole, start=1))
    else:
        yield from _json_lines(path)


def _listed() -> str:
    return ", ".join(ENDINGS)


def _json_lines(path: Path) -> Iterator[Placed]:
    for number, line in json_lines(path):
        try:
            yield f"line {number} of {path}", json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"line {number} of {path} is no JSON ({error.msg})") from error


def _json_list(path: Path) -> list[Any] | None:
    """The members of a file that is one JSON list; None where it has a record on each line."""
    text = plain_text(path).lstrip("\ufeff")
    if not text.strip():
        raise DataError(f"{path} is empty")
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip()[:1] == "{":
            return None
        raise DataError(f"line {error.lineno} of {path} is no JSON ({error.msg})") from error
    if not isinstance(whole, list):
        kind = "an object" if isinstance(whole, dict) else "one value"
        raise DataError(
            f"{path} holds {kind} at its top, not a list of records; put them between "
            "[ and ], or one on each line of a .jsonl file"
        )
    return whole


def _separated(path: Path) -> Iterator[Placed]:
    """The rows of a csv or tsv file; every cell is the text that it is."""
    try:
        with _long_cells(), open(path, encoding=encoding_of(path), newline="") as file:
            first = next((line for line in file if line.strip()), "")
            file.seek(0)
            sign = _separator(path, first)
            reader = csv.reader(file, delimiter=sign, strict=True)
            rows = (row for row in reader if row)
            header = [name.strip() for name in next(rows, [])]
            _check_header(path, header)
            for row in rows:
                while len(row) > len(header) and not row[-1]:
                    row = row[:-1]  # a line may end with what parts cells
                if len(row) != len(header):
                    raise DataError(
                        f"line {reader.line_num} of {path} has {len(row)} cells where its header "
                        f"has {len(header)}; put texts that hold {sign!r} or a line end in quotes"
                    )
                fields = zip(header, row, strict=True)
                yield f"line {reader.line_num} of {path}", {k: v for k, v in fields if k}
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} of {path} cannot be parsed: {error}") from error
    except UnicodeError as error:
        plain_text(path)  # which says the line
        raise DataError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _separator(path: Path, header: str) -> str:
    """What parts the cells: the sign that the file's name says, else the commonest one."""
    bare = re.sub(r'"[^"]*"', "", header)
    named = "," if path.suffix.lower() == ".csv" else "\t"
    return named if named in bare else max((named, ",", ";", "\t", "|"), key=bare.count)


def _check_header(path: Path, header: list[str]) -> None:
    if not any(header):
        raise DataError(f"{path} has no header; name its columns on the first line")
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has the column name {twice!r} twice; give each its own")


@contextlib.contextmanager
def _long_cells() -> Iterator[None]:
    """Let a cell be of any length; the csv module stops at 128 KB by itself."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _columns(path: Path, batches: Iterator[Any]) -> Iterator[Placed]:
    """The rows of Arrow's batches."""
    import pyarrow as pa

    number = 0
    try:
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield f"row {number} of {path}", plain_value(row)
    except pa.ArrowException as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else "it is damaged"
        kind = "parquet" if path.suffix.lower() in PARQUET else "arrow"
        raise DataError(f"{path} is no readable {kind} file: {said}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _parquet_batches(path: Path) -> Iterator[Any]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=1000)


def _arrow_batches(path: Path) -> Iterator[Any]:
    with arrow_batches(path) as (_, batches):
        yield from batches


def _of_dataset(path: Path) -> Iterator[Placed]:
    loaded = opened_dataset(str(path))
    import datasets

    if not isinstance(loaded, datasets.Dataset):
        names = list(loaded)
        if len(names) != 1:
            raise DataError(
                f"{path} holds the parts {', '.join(names)}; name the folder of one, such as "
                f"{path / names[0]}"
            )
        loaded = loaded[names[0]]
    for number, row in enumerate(loaded, start=1):
        yield f"row {number} of {path}", plain_value(row)


def opened_dataset(source: str, *, hub: bool = False) -> Any:
    """What `datasets` saved in a folder, or has on the hub: one data set, or several by the names
    of their parts.

    Raises:
        NotInstalled: `datasets` is not here. DataError: it cannot be loaded.
    """
    needs("datasets", source)
    import datasets

    try:
        return datasets.load_dataset(source) if hub else datasets.load_from_disk(source)
    except Exception as error:
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"the data set {source} cannot be loaded: {first}") from error


def _of_object(source: Any) -> list[Any]:
    """The rows of a frame or of a data set of `datasets`."""
    if type(source).__module__.partition(".")[0] == "datasets":
        return [plain_value(row) for row in source]
    from stackwise.tasks.table.source import as_frame

    frame = as_frame(source)
    # by columns: a row of its own would make 1.0 of a 1 that stands beside a 0.5
    columns = {str(name): frame[name].tolist() for name in frame.columns}
    return [
        plain_value(dict(zip(columns, row, strict=True)))
        for row in zip(*columns.values(), strict=True)
    ]
