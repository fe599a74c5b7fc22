"""Bring each column into the one form that its content has, whatever the type its file gave it.

A csv file holds texts, JSON lines hold numbers and texts, parquet and frames hold types. So that
the same data is the same table in each of them, a column becomes

    whole numbers      int64, or uint64 above it; Int64 where some are missing above 2^53
    other numbers      float64, missing as NaN
    truth values       bool, or objects True, False and None
    everything else    as it is: texts, dates, declared categories, lists

A text is a number only where each cell of its column is one as programs write it; `$1,200`, dates
and `1,5` stay texts, which `columns` reads by their style. Codes such as 007 stay texts, and whole
numbers beyond 64 bits too. Words for nothing (`NA`, `-`) among numbers are missing, and counted.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute

from stackwise.errors import DataError
from stackwise.tasks.labelled import numerals, values

pc: Any = pyarrow.compute  # its functions are made at run time, unknown to type checkers

SAMPLE = 500
_PADDED = r"^[+-]?0[0-9]+$"
_WHOLE = r"^[+-]?[0-9]+$"
_TRUE, _FALSE = ("True", "TRUE", "true"), ("False", "FALSE", "false")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+")


def plain_columns(
    frame: pd.DataFrame, *, as_text: Collection[str] = (), sep: str | None = None
) -> pd.DataFrame:
    """The frame with each column in its one form.

    Args:
        as_text: columns whose texts stay as they are.
        sep: what parts the columns of the file; a semicolon speaks for decimal commas.

    Returns:
        A frame of the same rows and names. `attrs["words"]` counts, by column, the words that are
        taken as missing; `attrs["decimal"]` is the decimal sign of the table where it shows one.

    Raises:
        DataError: a column holds bytes that are no text.
    """
    columns = [frame.iloc[:, place] for place in range(frame.shape[1])]
    read: list[pd.Series] = []
    words: dict[str, dict[str, int]] = {}
    for name, series in zip(frame.columns, columns, strict=True):
        if str(name) in as_text and not values.is_numeric(series):
            read.append(series)
            continue
        found, missing = plain(series)
        read.append(found)
        if missing:
            words[str(name)] = dict(missing)
    decimal = _decimal_sign(columns, read, sep)
    if decimal == "," and not _has_points(columns, read):
        read = [
            before if values.is_numeric(after) and _dotted_thousands(before) else after
            for before, after in zip(columns, read, strict=True)
        ]
    same = all(before is after for before, after in zip(columns, read, strict=True))
    made = frame if same else pd.concat(read, axis=1).set_axis(frame.columns, axis=1)
    made.attrs = {**frame.attrs, "words": words, "decimal": decimal}
    return made


def plain(series: pd.Series) -> tuple[pd.Series, Mapping[str, int]]:
    """One column in its form, and the words in it that are taken as missing."""
    dtype = series.dtype
    if isinstance(dtype, pd.ArrowDtype):
        series = series_of(pa.chunked_array(pa.array(series))).set_axis(series.index)
        series.name, dtype = series.name, series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return series, {}
    if pd.api.types.is_object_dtype(dtype):
        series = _of_objects(series)
        dtype = series.dtype
    if pd.api.types.is_extension_array_dtype(dtype) and dtype.kind in "iuf":
        return _without_gaps(series), {}
    if isinstance(dtype, pd.StringDtype):
        return _of_texts(series)
    if isinstance(dtype, pd.BooleanDtype):
        return series.astype(object if series.isna().any() else bool), {}
    return series, {}


def series_of(column: "pa.ChunkedArray[Any]") -> pd.Series:
    """A column of an arrow table, whole numbers exact and lists as Python lists."""
    kind = column.type
    if pa.types.is_integer(kind) and column.null_count:
        bits = pd.UInt64Dtype() if pa.types.is_unsigned_integer(kind) else pd.Int64Dtype()
        exact = column.cast(pa.uint64() if pa.types.is_unsigned_integer(kind) else pa.int64())
        return _without_gaps(exact.to_pandas(types_mapper=lambda _: bits))
    if pa.types.is_nested(kind):
        return pd.Series(column.to_pylist(), dtype=object)
    return pd.Series(column.to_pandas(date_as_object=False))


def _without_gaps(series: pd.Series) -> pd.Series:
    """A nullable column as numpy numbers, unless whole numbers beside a gap would change."""
    if series.dtype.kind == "f":
        return series.astype(np.float64)
    if not series.isna().any():
        dtype: Any = series.dtype
        return series.astype(dtype.numpy_dtype)
    return series if values.beyond_floats(series) else series.astype(np.float64)


def _of_objects(series: pd.Series) -> pd.Series:
    """Python objects of one kind as what they are; texts among numbers make all of them texts."""
    known = series[series.notna()]
    kinds = set(known.map(type))
    if not kinds:
        return pd.Series(np.full(len(series), np.nan), series.index, name=series.name)
    if kinds <= {bool, np.bool_}:
        return series.astype(bool) if len(known) == len(series) else series
    if all(issubclass(kind, (bytes, bytearray)) for kind in kinds):
        return _decoded(series)
    if any(issubclass(kind, np.ndarray) for kind in kinds):
        return series.map(lambda cell: cell.tolist() if isinstance(cell, np.ndarray) else cell)
    number = [issubclass(kind, (int, float, Decimal, np.number)) for kind in kinds]
    if all(number) and not kinds & {bool, np.bool_, complex, np.complex128}:
        return _of_numbers(series, known)
    texts = all(issubclass(kind, (str, int, float, Decimal, np.number, np.bool_)) for kind in kinds)
    if not texts:
        return series
    spelled = series.map(lambda cell: cell if isinstance(cell, str) else values.level(cell),
                         na_action="ignore")  # fmt: skip
    try:
        return spelled.astype("str")
    except (UnicodeError, ValueError):  # a lone surrogate
        return spelled


def _of_numbers(series: pd.Series, known: pd.Series) -> pd.Series:
    numbers = [int(cell) if _is_whole(cell) else float(cell) for cell in known]
    if not all(isinstance(number, int) for number in numbers):
        found = np.full(len(series), np.nan)
        found[series.notna().to_numpy()] = [float(number) for number in numbers]
        return pd.Series(found, series.index, name=series.name)
    low, high = min(numbers), max(numbers)
    if low < -(2**63) or high >= 2**64 or (low < 0 and high >= 2**63):
        return series.map(lambda cell: str(int(cell)), na_action="ignore").astype("str")
    exact = pd.array(numbers, dtype="UInt64" if high >= 2**63 else "Int64")
    spread = pd.Series(exact, index=known.index).reindex(series.index)
    return _without_gaps(spread.rename(series.name))


def _is_whole(cell: Any) -> bool:
    if isinstance(cell, Decimal):
        return cell.is_finite() and cell == cell.to_integral_value()
    return isinstance(cell, (int, np.integer))


def _decoded(series: pd.Series) -> pd.Series:
    try:
        return series.map(lambda cell: bytes(cell).decode(), na_action="ignore").astype("str")
    except UnicodeDecodeError:
        raise DataError(
            f"column {series.name!r} holds bytes that are no text in UTF-8; give texts or numbers"
        ) from None


def _of_texts(series: pd.Series) -> tuple[pd.Series, Mapping[str, int]]:
    """Texts as numbers or truth values, where each of them is one or a word for nothing."""
    texts = pa.chunked_array(pa.array(series, type=pa.large_string(), from_pandas=True))
    sample = [text.strip() for text in texts.slice(0, SAMPLE).to_pylist() if text is not None]
    told = [text for text in sample if text.lower() not in values.MISSING_WORDS]
    if not texts.null_count < len(texts):
        return _filled(series, np.full(len(series), np.nan)), {}
    if not all(text in (*_TRUE, *_FALSE) or _like_a_number(text) for text in told):
        return series, {}
    bare = pc.utf8_trim_whitespace(texts)
    nothing = pc.is_in(pc.utf8_lower(bare), pa.array(sorted(values.MISSING_WORDS), bare.type))
    nothing = pc.fill_null(nothing, False)
    words = Counter(text for text in bare.filter(nothing).to_pylist() if text)
    known = pc.if_else(nothing, pa.scalar(None, bare.type), bare)
    if known.null_count == len(known):
        return series, {}  # words and nothing else
    for read in (_numbers, _truths):
        found = read(known)
        if found is not None:
            return _filled(series, found), words
    return series, {}


def _filled(series: pd.Series, found: Any) -> pd.Series:
    return pd.Series(found, index=series.index, name=series.name)


def _like_a_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _numbers(texts: "pa.ChunkedArray[Any]") -> Any:
    """Texts as int64, uint64, Int64 or float64; None where one is no number or has zeros before."""
    try:
        floats = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    if pc.any(pc.match_substring_regex(texts, _PADDED)).as_py():
        return None
    for whole in (pa.int64(), pa.uint64()):
        try:
            exact = texts.cast(whole)
        except pa.ArrowInvalid:
            continue
        return series_of(exact).array
    if pc.all(pc.match_substring_regex(texts, _WHOLE)).as_py():
        within = pc.less(pc.abs(floats), float(numerals.EXACT))
        return floats.to_numpy() if pc.all(within).as_py() else None
    return floats.to_numpy(zero_copy_only=False) if texts.num_chunks == 1 else floats.to_numpy()


def _truths(texts: "pa.ChunkedArray[Any]") -> Any:
    """Texts as truth values, missing as None; None where one is neither True nor False."""
    if not set(texts.unique().to_pylist()) <= {*_TRUE, *_FALSE, None}:
        return None
    said = pc.is_in(texts, pa.array(_TRUE, texts.type))
    cells = pc.if_else(pc.is_null(texts), pa.scalar(None, pa.bool_()), said).to_pylist()
    return np.array(cells, dtype=object if texts.null_count else bool)


def _decimal_sign(before: list[pd.Series], after: list[pd.Series], sep: str | None) -> str | None:
    """The sign that the numbers of a table have before their fraction; None where none shows.

    Columns of texts that only a decimal comma makes numbers decide; then a semicolon between
    columns; then fractions with a point.
    """
    signs = set()
    for series, read in zip(before, after, strict=True):
        if isinstance(series.dtype, pd.StringDtype) and isinstance(read.dtype, pd.StringDtype):
            style = numerals.number_style(_spellings(read))
            signs.add(style.sign if style is not None and style.sure else None)
    if "," in signs or sep == ";":
        return ","
    return "." if "." in signs or _has_points(before, after) else None


def _has_points(before: list[pd.Series], after: list[pd.Series]) -> bool:
    """Whether some column has fractions behind a point."""
    return any(
        isinstance(series.dtype, np.dtype) and series.dtype.kind == "f"
        and bool((series % 1 > 0).any()) and not _dotted_thousands(texts)
        for texts, series in zip(before, after, strict=True)
    )  # fmt: skip


def _spellings(series: pd.Series) -> list[str]:
    """The distinct texts of a sample that are no words for nothing."""
    found = dict.fromkeys(text.strip() for text in series.dropna().iloc[:SAMPLE])
    return [text for text in found if text.lower() not in values.MISSING_WORDS]


def _dotted_thousands(series: pd.Series) -> bool:
    """Whether texts are whole numbers with points between thousands: 1.234, 12.500."""
    if not isinstance(series.dtype, pd.StringDtype):
        return False
    distinct = _spellings(pd.Series(series.dropna().unique()))
    return any("." in text for text in distinct) and all(
        _THOUSANDS.fullmatch(text) or text.isdigit() for text in distinct
    )
