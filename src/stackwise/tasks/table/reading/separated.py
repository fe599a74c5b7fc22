"""Read csv and its kin strictly, each cell as the text that it is.

The start of the file and its header are looked at first; pyarrow parses the rest, and refuses a row
that has too few or too many cells. What the texts mean is decided where a column is seen whole
(`plain`), so that 007, 9007199254740993 and None reach it unchanged.
"""

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from stackwise.errors import DataError
from stackwise.tasks.file_starts import marked_encoding

PACKED = (".gz", ".bz2", ".xz", ".zip")
BLOCK = 2**23
"""Bytes that are parsed at once; a row must fit in."""


def kind_of(path: Path) -> str:
    """The ending that says the format, without one of packing."""
    endings = [ending.lower() for ending in path.suffixes]
    if len(endings) > 1 and endings[-1] in PACKED:
        return endings[-2]
    return endings[-1] if endings else ""


def opened(path: Path) -> Any:
    """The file as bytes, unpacked; `handle` of what is returned reads them."""
    from pandas.io.common import get_handle

    return get_handle(path, "rb", compression="infer", is_text=False)


def encoding_of(path: Path, named: str | None) -> str:
    """The encoding that a byte-order mark tells, else the named one, else UTF-8.

    Raises:
        DataError: nobody knows an encoding of that name.
    """
    try:
        codecs.lookup(named or "utf-8")
    except LookupError:
        raise DataError(f"there is no text encoding {named!r}; try utf-8 or latin-1") from None
    with opened(path) as file:
        return marked_encoding(file.handle.read(4)) or named or "utf-8"


@dataclass(frozen=True)
class Layout:
    """How a text table is laid out: column names, what parts them, and the lines above the rows.

    `bare` is True where each row ends in one more separator than the header has.
    """

    names: list[str]
    sep: str
    lines: int
    bare: bool


def read_separated(
    path: Path, sep: str | None, encoding: str | None, rows: int | None
) -> Iterator[pd.DataFrame]:
    """The table, whole or in pieces of `rows` rows, each cell a text, a blank one missing.

    `attrs["sep"]` says what parts the columns.

    Raises:
        DataError: empty, binary, ragged, in another encoding, or with a column name twice.
        UnicodeError, OSError: from the file itself; `source` words them.
    """
    sep = {"tab": "\t", "\\t": "\t"}.get(sep or "", sep)
    if sep is not None and len(sep) != 1:
        raise DataError(f"sep is one character, such as ',' or ';' or tab, not {sep!r}")
    name = encoding_of(path, encoding)
    _text_only(path, name)
    layout = _layout(path, sep, name)
    no_repeats(path, layout.names)
    for table in _pieces(path, layout, name, rows):
        frame = table.to_pandas()
        frame.attrs["sep"] = layout.sep
        yield frame


def _text_only(path: Path, encoding: str) -> None:
    """Refuse what is no text, before a parser makes a table of it."""
    with opened(path) as file:
        start = file.handle.read(65_536)
    if not start.strip():
        raise DataError(f"{path} is empty")
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        return
    odd = sum(start.count(byte) for byte in range(32) if byte not in (9, 10, 12, 13))
    if b"\0" in start or odd > len(start) / 50:
        raise DataError(f"{path} is not a text table: it holds binary data")


def _layout(path: Path, sep: str | None, encoding: str) -> Layout:
    """Look at the header: the sign that parts it is the given one, or the most frequent."""
    with opened(path) as packed, io.TextIOWrapper(packed.handle, encoding, newline="") as file:
        try:
            if sep is None:
                first = next((line for line in file if line.strip()), "")
                bare = re.sub(r'"[^"]*"', "", first)
                by_name = "\t" if kind_of(path) in (".tsv", ".tab") else ","
                signs = (by_name, ",", ";", "\t", "|")
                sep = by_name if by_name in bare else max(signs, key=bare.count)
                file.seek(0)
            rows = csv.reader(file, delimiter=sep)
            header = next(([cell.strip() for cell in row] for row in rows if row), [])
            lines = rows.line_num
            second = next((row for row in rows if row), [])
        except (csv.Error, TypeError) as error:
            raise DataError(
                f"the header of {path} cannot be parsed with sep {sep!r}: {error}"
            ) from error
    header = [cell.lstrip("\ufeff") for cell in header]
    names = [cell or f"unnamed {place}" for place, cell in enumerate(header)]
    trailing = len(second) == len(header) + 1 and not second[-1].strip()
    return Layout(names, sep, lines, trailing)


def _pieces(path: Path, layout: Layout, encoding: str, rows: int | None) -> Iterator["pa.Table"]:
    """The rows as tables of strings: of `rows` rows each, or one of them all."""
    names = [*layout.names, ""] if layout.bare else layout.names
    waiting: list[Any] = []
    count = 0
    for batch in _batches(path, layout, names, encoding):
        waiting.append(batch)
        count += batch.num_rows
        while rows is not None and count >= rows:
            whole = pa.Table.from_batches(waiting)
            yield _without_last(path, whole.slice(0, rows), layout)
            waiting, count = whole.slice(rows).to_batches(), count - rows
    if count:
        yield _without_last(path, pa.Table.from_batches(waiting), layout)


def _without_last(path: Path, table: "pa.Table", layout: Layout) -> "pa.Table":
    """Drop the column that separators at the ends of rows make."""
    if not layout.bare:
        return table
    if table.column(len(layout.names)).null_count < len(table):
        raise DataError(
            f"{path} has {len(layout.names) + 1} cells in some rows where its first row has "
            f"{len(layout.names)}; give each row as many cells as the header"
        )
    return table.select(list(range(len(layout.names))))


def _batches(path: Path, layout: Layout, names: list[str], encoding: str) -> Iterator[Any]:
    """Parse the rows below the header.

    In a table of one column a blank line is a row whose value is missing; elsewhere it is none.
    """
    reading = arrow_csv.ReadOptions(
        use_threads=False, block_size=BLOCK, column_names=names, skip_rows=layout.lines
    )
    parsing = arrow_csv.ParseOptions(
        delimiter=layout.sep, newlines_in_values=True, ignore_empty_lines=len(names) > 1
    )
    converting = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    last: Any = None
    with opened(path) as packed:
        counted = _Quotes(packed.handle)
        stream: Any = pa.PythonFile(counted, mode="r")
        if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
            stream = pa.transcoding_input_stream(stream, encoding, "utf-8")
        try:
            with arrow_csv.open_csv(stream, reading, parsing, converting) as pieces:
                for batch in pieces:
                    if batch.num_rows:
                        last = batch
                        yield batch
        except pa.ArrowInvalid as error:
            if "Could not skip" in str(error):  # there is nothing below the header
                return
            raise _unparsed(path, error) from error
    if counted.odd and last is not None and any(
        "\n" in (cell or "") for cell in last.slice(last.num_rows - 1).to_pylist()[0].values()
    ):  # fmt: skip
        raise DataError(f"{path} cannot be parsed: a quote is opened and never closed")


class _Quotes:
    """A file of bytes that remembers whether an odd number of quotes was read."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.odd = False
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        content = bytes(self.file.read(size))
        self.odd ^= bool(content.count(b'"') % 2)
        return content

    def close(self) -> None:
        self.closed = True


def _unparsed(path: Path, error: Exception) -> Exception:
    """What to say of a row that pyarrow could not take."""
    said = str(error)
    if "UTF8" in said or "UTF-8" in said:
        return UnicodeError(said)
    found = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", said)
    if found is not None:
        row, expected, got = found.groups()
        return DataError(
            f"{path} has {got} cells in row {row} where its first row has {expected}; "
            "give each row as many cells as the header"
        )
    if "straddling" in said:
        return DataError(f"{path} has a row of more than {BLOCK // 2**20} MB, or an open quote")
    if "Expected" in said:
        return DataError(f"{path} has rows of different lengths")
    return DataError(f"{path} cannot be parsed: {first_line(error)}")


def not_encoded(path: Path, encoding: str | None) -> str:
    """What to say where the bytes are not in the encoding."""
    if encoding:
        return f"{path} is not in the encoding {encoding}; try --encoding utf-8 or latin-1"
    return f"{path} is not in UTF-8; say its encoding, such as --encoding latin-1"


def no_repeats(path: Path | str, names: Collection[str]) -> None:
    """Refuse two columns of one name."""
    listed = list(names)
    repeated = sorted({name for name in listed if listed.count(name) > 1})
    if repeated:
        raise DataError(
            f"{path} has the column name {repeated[0]!r} twice; give each column its own name"
        )


def first_line(error: Exception) -> str:
    """The first line of what a parser said."""
    return str(error).strip().splitlines()[0].strip() if str(error).strip() else str(error)
