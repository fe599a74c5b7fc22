"""Read csv and its kin strictly.

pandas fills up a row that has too few cells, renames a column name that comes twice and takes
binary data for text. So the start of the file, its header and the length of every row are looked
at first; the rows are counted by pyarrow in one quick pass.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from stackwise.errors import DataError

PACKED = (".gz", ".bz2", ".xz", ".zip")


def kind_of(path: Path) -> str:
    """The ending that says the format, without one of packing."""
    endings = [ending.lower() for ending in path.suffixes]
    if len(endings) > 1 and endings[-1] in PACKED:
        return endings[-2]
    return endings[-1] if endings else ""


def read_separated(
    path: Path, sep: str | None, encoding: str | None, rows: int | None, as_text: tuple[str, ...]
) -> Iterator[pd.DataFrame]:
    """The table, whole or in pieces of `rows` rows; columns in `as_text` stay texts.

    Raises:
        DataError: empty, binary, ragged, in another encoding, or with a column name twice.
        UnicodeError, OSError: from the file itself; `source` words them.
    """
    name = encoding or "utf-8-sig"
    try:
        codecs.lookup(name)
    except LookupError:
        raise DataError(f"there is no text encoding {name!r}; try utf-8 or latin-1") from None
    sep = {"tab": "\t", "\\t": "\t"}.get(sep or "", sep)
    if sep is not None and len(sep) != 1:
        raise DataError(f"sep is one character, such as ',' or ';' or tab, not {sep!r}")
    _text_only(path, name)
    header, sep = _header(path, sep, name)
    no_repeats(path, [cell for cell in header if cell])
    _even_rows(path, sep, name)
    names = [cell or f"unnamed {place}" for place, cell in enumerate(header)]
    options: dict[str, Any] = {
        "sep": sep, "encoding": name, "low_memory": False, "header": 0, "names": names,
        "dtype": {cell: str for cell in names if cell in as_text}, "index_col": False,
    }  # fmt: skip
    try:
        if rows is None:
            yield pd.read_csv(path, **options)
        else:
            with pd.read_csv(path, chunksize=rows, **options) as reader:
                yield from reader
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} is empty") from error
    except pd.errors.ParserError as error:
        raise DataError(f"{path} cannot be parsed: {first_line(error)}") from error


def _opened(path: Path) -> Any:
    """The file as bytes, unpacked."""
    from pandas.io.common import get_handle

    return get_handle(path, "rb", compression="infer", is_text=False)


def _text_only(path: Path, encoding: str) -> None:
    """Refuse what is no text, before a parser makes a table of it."""
    with _opened(path) as opened:
        start = opened.handle.read(65_536)
    if not start.strip():
        raise DataError(f"{path} is empty")
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        return
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is not in UTF-8; it looks like UTF-16: say encoding utf-16")
    odd = sum(start.count(byte) for byte in range(32) if byte not in (9, 10, 12, 13))
    if b"\0" in start or odd > len(start) / 50:
        raise DataError(f"{path} is not a text table: it holds binary data")


def _header(path: Path, sep: str | None, encoding: str) -> tuple[list[str], str]:
    """The column names, and what parts them: the given sign, or the most frequent in the header."""
    with (
        open(path, encoding=encoding, newline="")
        if path.suffix.lower() not in PACKED
        else (_unpacked(path, encoding)) as file
    ):
        try:
            first = next(line for line in file if line.strip())
            if sep is None:
                bare = re.sub(r'"[^"]*"', "", first)
                by_name = "\t" if kind_of(path) in (".tsv", ".tab") else ","
                signs = (by_name, ",", ";", "\t", "|")
                sep = by_name if by_name in bare else max(signs, key=bare.count)
            file.seek(0)
            rows = csv.reader(file, delimiter=sep)
            return next([cell.strip() for cell in row] for row in rows if row), sep
        except (csv.Error, TypeError) as error:
            raise DataError(
                f"the header of {path} cannot be parsed with sep {sep!r}: {error}"
            ) from error


def _unpacked(path: Path, encoding: str) -> Any:
    with _opened(path) as opened:
        lines = b"".join(opened.handle.readline() for _ in range(50))
    return io.StringIO(lines.decode(encoding, "replace"), newline="")


def _even_rows(path: Path, sep: str, encoding: str) -> None:
    """Refuse rows with more or fewer cells than the header; reads the file once, in pieces."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    reading = arrow_csv.ReadOptions(use_threads=False, autogenerate_column_names=True)
    parsing = arrow_csv.ParseOptions(delimiter=sep, newlines_in_values=True)
    converting = arrow_csv.ConvertOptions(
        include_columns=["f0"], column_types={"f0": pa.binary()}, check_utf8=False
    )
    try:
        with _opened(path) as opened:
            stream: Any = pa.PythonFile(opened.handle, mode="r")
            if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
                stream = pa.transcoding_input_stream(stream, encoding, "utf-8")
            for _ in arrow_csv.open_csv(stream, reading, parsing, converting):
                pass
    except pa.ArrowInvalid as error:
        found = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", str(error))
        if found is None:
            if "Expected" not in str(error):
                return  # pandas says what is wrong
            raise DataError(f"{path} has rows of different lengths") from error
        row, expected, got = found.groups()
        raise DataError(
            f"{path} has {got} cells in row {row} where its first row has {expected}; "
            "give each row as many cells as the header"
        ) from error


def not_encoded(path: Path, encoding: str | None) -> str:
    """What to say where the bytes are not in the encoding."""
    if encoding:
        return f"{path} is not in the encoding {encoding}; try utf-8 or latin-1"
    return f"{path} is not in UTF-8; say its encoding, such as latin-1"


def no_repeats(path: Path, names: list[str]) -> None:
    """Refuse two columns of one name."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(
            f"{path} has the column name {repeated[0]!r} twice; give each column its own name"
        )


def first_line(error: Exception) -> str:
    """The first line of what a parser said."""
    return str(error).strip().splitlines()[0].strip() if str(error).strip() else str(error)
