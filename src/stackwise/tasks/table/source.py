"""Bring a table in, from wherever it is: a file, a folder, a frame, a name or a hub id.

A file that is broken gets one sentence that says how, and never a shorter table.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError, StackwiseError
from stackwise.optional import needs
from stackwise.tasks.table.reading.arrow_tables import frame_of, read_arrow, read_parquet
from stackwise.tasks.table.reading.json_lines import read_lines
from stackwise.tasks.table.reading.plain import plain_columns
from stackwise.tasks.table.reading.separated import PACKED, kind_of, not_encoded, read_separated

SEPARATED = (".csv", ".tsv", ".tab", ".txt")
PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
LINES = (".jsonl", ".ndjson", ".json")
CHUNK = 50_000


def read_table(
    source: Any,
    *,
    sep: str | None = None,
    encoding: str | None = None,
    as_text: Collection[str] = (),
) -> pd.DataFrame:
    """Read a whole table, each column in the form that its content has (`reading.plain`).

    Args:
        source: a csv, tsv, parquet, arrow or json-lines file; a folder that `datasets` wrote or
            that holds such files; `hf://owner/name`; the name of a data set; a pandas or polars
            frame; or a two-dimensional array. A named index of a frame is a column.
        sep: what parts the columns of a text file; found from the header by default.
        encoding: of a text file; UTF-8 by default. A byte-order mark is believed before it.
        as_text: columns whose texts stay texts (007 is not 7).

    Returns:
        A frame. `attrs` may hold `target` (the usual target of a named data set) and `split` (a
        column that says which part of a `datasets` folder a row is from), and holds what
        `plain_columns` says.

    Raises:
        DataError: it cannot be read; the sentence says why.
    """
    frame = _raw(source, sep, encoding)
    return plain_columns(frame, as_text=as_text, sep=frame.attrs.get("sep"))


def _raw(source: Any, sep: str | None, encoding: str | None) -> pd.DataFrame:
    """The table in the types of its file."""
    if not isinstance(source, (str, os.PathLike)):
        return with_index(as_frame(source))
    text = os.fspath(source)
    if text.startswith("hf://"):
        return _from_datasets(text.removeprefix("hf://").removeprefix("datasets/"), hub=True)
    path = Path(text)
    try:
        if path.is_dir():
            return _from_folder(path, sep, encoding)
        if not path.exists():
            return _by_name(text)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    frames = list(_read(path, sep, encoding, None))
    if not frames or not len(frames[0]):
        raise DataError(f"{path} has a header and no rows")
    return frames[0]


def read_chunks(
    source: Any,
    *,
    sep: str | None = None,
    encoding: str | None = None,
    as_text: Collection[str] = (),
    rows: int = CHUNK,
) -> Iterator[pd.DataFrame]:
    """Read a table in pieces of at most `rows` rows; files are never held whole.

    Args:
        as_text: columns whose texts stay texts.
    """
    if isinstance(source, (str, os.PathLike)) and Path(source).is_file():
        empty = True
        for frame in _read(Path(source), sep, encoding, rows):
            if len(frame):
                empty = False
                yield plain_columns(frame, as_text=as_text)
        if empty:
            raise DataError(f"{source} has a header and no rows")
        return
    frame = read_table(source, sep=sep, encoding=encoding, as_text=as_text)
    for start in range(0, len(frame), rows):
        yield frame.iloc[start : start + rows]


def as_frame(source: Any) -> pd.DataFrame:
    """A pandas, polars or arrow table (any that narwhals knows), or an array, as pandas.

    An array's columns are called x0, x1, ... Nothing is copied where pandas comes in.
    """
    if isinstance(source, pd.DataFrame):
        return source
    if isinstance(source, np.ndarray):
        if source.ndim != 2:
            raise DataError(f"a table has two dimensions, this array has {source.ndim}")
        return pd.DataFrame(source, columns=[f"x{i}" for i in range(source.shape[1])])
    import narwhals as nw

    try:
        frame = nw.from_native(source)
    except TypeError:
        raise DataError(
            f"a {type(source).__name__} is no table; give a file, a frame or a 2-d array"
        ) from None
    eager = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
    return frame_of(eager.to_arrow())


def with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with each named level of its index as a column."""
    named = [name for name in frame.index.names if name is not None]
    if not named:
        return frame
    twice = [name for name in named if name in frame.columns]
    if twice:
        raise DataError(
            f"{twice[0]!r} is the name of a column and of the index; give each its own name"
        )
    return frame.reset_index(level=named)


def _by_name(name: str) -> pd.DataFrame:
    endings = (*SEPARATED, *PARQUET, *ARROW, *LINES, *PACKED)
    if os.sep in name or Path(name).suffix.lower() in endings:
        raise DataError(f"{name} does not exist")
    from stackwise import data

    frame, target = data.table(name)
    frame.attrs["target"] = target
    return frame


def _from_folder(path: Path, sep: str | None, encoding: str | None) -> pd.DataFrame:
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _from_datasets(str(path), hub=False)
    known = (*SEPARATED, *PARQUET, *ARROW, *LINES)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in known)
    if not files:
        raise DataError(f"{path} is a folder without tables; name a file, such as {path}/table.csv")
    named = {file.stem: file for file in files}
    if len(files) > 1 and "train" not in named:
        raise DataError(
            f"{path} is a folder of {len(files)} tables; name one of them, such as {files[0]}"
        )
    parts = {stem: _raw(file, sep, encoding) for stem, file in named.items()}
    return _joined(parts)


def _from_datasets(source: str, *, hub: bool) -> pd.DataFrame:
    needs("datasets", source)
    import datasets

    try:
        loaded: Any = datasets.load_dataset(source) if hub else datasets.load_from_disk(source)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"the data set {source} cannot be loaded: {first}") from error
    if isinstance(loaded, datasets.Dataset):
        return frame_of(loaded.with_format("arrow")[:])
    return _joined({str(n): frame_of(part.with_format("arrow")[:]) for n, part in loaded.items()})


def _joined(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One frame, with a column that says the part where there are several."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    column = "split"
    while any(column in frame.columns for frame in parts.values()):
        column = f"_{column}"
    labelled = [frame.assign(**{column: name}) for name, frame in parts.items()]
    joined = pd.concat(labelled, ignore_index=True)
    joined.attrs["split"] = column
    return joined


def _read(
    path: Path, sep: str | None, encoding: str | None, rows: int | None
) -> Iterator[pd.DataFrame]:
    suffix = kind_of(path)
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty")
        if suffix in PARQUET:
            yield from read_parquet(path, rows)
        elif suffix in ARROW:
            yield from read_arrow(path, rows)
        elif suffix in LINES:
            yield from read_lines(path, encoding, rows)
        elif suffix in SEPARATED or sep:
            yield from read_separated(path, sep, encoding, rows)
        else:
            raise DataError(
                f"{path} has no known ending (.csv, .tsv, .parquet, .arrow, .jsonl); "
                "rename it, or say with sep what parts its columns"
            )
    except StackwiseError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeError as error:
        raise DataError(not_encoded(path, encoding)) from error
    except EOFError as error:
        raise DataError(f"{path} is cut off: {error}") from error
