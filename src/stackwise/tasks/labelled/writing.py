"""Write predictions piece by piece, in the format that a file's ending names."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from stackwise import spreadsheets
from stackwise.errors import DataError
from stackwise.files import replacing

FORMATS = (".csv", ".tsv", ".parquet", ".jsonl")


@contextlib.contextmanager
def predictions_file(path: Path, source: Any, *, raw: bool) -> "Iterator[PredictionWriter]":
    """Write predictions of `source` to `path`; nothing is left half written.

    Args:
        raw: in csv and tsv, without the apostrophe before texts that a spreadsheet would run.

    Raises:
        DataError: the ending names no format, the file is the source, or it cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path} must end in one of {', '.join(FORMATS)}")
    named = isinstance(source, (str, os.PathLike))
    if named and path.exists() and Path(source).exists() and path.samefile(source):
        raise DataError(f"{path} is the input; name another file for the predictions")
    try:
        with replacing(path) as beside, PredictionWriter(beside, raw=raw) as writer:
            yield writer
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error


def write_frames(
    path: Path | str, source: Any, frames: Iterable[pd.DataFrame], *, raw: bool
) -> int:
    """Write frames of answers one after another, as `predictions_file`; returns the rows."""
    count = 0
    with predictions_file(Path(path), source, raw=raw) as writer:
        for frame in frames:
            writer.write(frame)
            count += len(frame)
    return count


class PredictionWriter:
    """Appends frames to one file, in the format that its ending names."""

    def __init__(self, path: Path, *, raw: bool) -> None:
        self.path, self.raw = path, raw
        self.kind = path.suffix.lower()
        self.parquet: Any = None
        self.first = True

    def __enter__(self) -> "PredictionWriter":
        self.file = None if self.kind == ".parquet" else open(self.path, "w", encoding="utf-8",
                                                              newline="")  # fmt: skip
        return self

    def write(self, frame: pd.DataFrame) -> None:
        if self.kind == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            schema = None if self.parquet is None else self.parquet.schema
            table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
            if self.parquet is None:
                self.parquet = pq.ParquetWriter(self.path, table.schema)
            self.parquet.write_table(table)
        elif self.kind == ".jsonl":
            frame.to_json(self.file, orient="records", lines=True)
        else:
            sep = "\t" if self.kind == ".tsv" else ","
            safe = frame if self.raw else spreadsheets.written(frame)
            safe.to_csv(self.file, sep=sep, index=False, header=self.first)
        self.first = False

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()
        if self.parquet is not None:
            self.parquet.close()
