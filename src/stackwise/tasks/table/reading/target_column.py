"""Read the column to predict, and refuse one that nothing can be learned from.

A class keeps the type that its column has: truth values stay truth values, whole numbers whole and
exact, and a word such as None is a class like any other. Fractions are numbers to predict; asked
for as classes, they are known by their spelling.

Rows without a target are left out and counted. An infinite target, fewer than ten usable rows, or
a single value in all of them is an error: no metric on it means anything.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from stackwise.errors import DataError, nearest
from stackwise.learning.metrics import Problem
from stackwise.tasks.labelled import numerals, values
from stackwise.tasks.table.reading.plain import plain

LEAST_ROWS = 10
Asked = Literal["auto", "regression", "classification", "binary", "multiclass"]
_ASKED = ("auto", "regression", "classification", "binary", "multiclass")


@dataclass
class TargetColumn:
    """A target that was read.

    Attributes:
        y: (rows with a target,) float64 for regression; bool, int64, float64 or str for classes.
        known: (all rows,) whether the row has a target.
        problem: what is predicted.
        notes: sentences about what was decided.
        decimal: the decimal sign of numbers that came as text.
    """

    y: np.ndarray
    known: np.ndarray
    problem: Problem
    notes: list[str] = field(default_factory=list)
    decimal: str = "."


def read_target(
    series: pd.Series, problem: str = "auto", decimal: str | None = None
) -> TargetColumn:
    """Read a target and decide the problem.

    Args:
        problem: `regression`, `classification` (or `binary`, `multiclass`), or `auto`: text,
            truth values, declared categories and whole numbers of two values are classes; so are
            whole numbers of at most 20 values that come ten times each, and those above 2^53 that
            do, however many; other numbers are not.
        decimal: the decimal sign of the table, for texts that leave it open.

    Raises:
        DataError: as the module says, or the column does not fit the problem.
    """
    if problem not in _ASKED:
        raise DataError(f"there is no problem {problem!r}.{nearest(problem, _ASKED)}")
    read = _values(series, problem, decimal)
    y = read.y
    if read.problem == "regression":
        if y.min() == y.max():
            raise DataError(f"target {series.name!r} is always {y[0]:g}: nothing can be learned")
        return read
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) == 1:
        raise DataError(f"target {series.name!r} has one class, {classes[0]!s}: nothing to learn")
    if len(classes) > 20 and len(classes) > len(y) / 2:
        raise DataError(
            f"target {series.name!r} has {len(classes):,} different values in {len(y):,} rows, too "
            "many to be classes; name another target, or problem='regression' for numbers"
        )
    if problem == "binary" and len(classes) > 2:
        raise DataError(f"target {series.name!r} has {len(classes)} classes; binary means two")
    read.problem = "binary" if len(classes) == 2 else "multiclass"
    rare = [str(name) for name, count in zip(classes, counts, strict=True) if count < 3]
    if rare:
        listed = ", ".join(rare[:5]) + (", ..." if len(rare) > 5 else "")
        read.notes.append(f"classes of fewer than 3 rows are not in every part: {listed}")
    elif counts.min() < len(y) / 50:
        read.notes.append(
            f"class {classes[counts.argmin()]!s} has {counts.min():,} of {len(y):,} rows: look at "
            "balanced_accuracy, and try class_weight"
        )
    return read


def _values(series: pd.Series, problem: str, decimal: str | None) -> TargetColumn:
    name = series.name
    series = _undeclared(series.infer_objects())
    declared = series.attrs.get("declared", False)
    _only_cells(series)
    numbers = None if _truth_values(series) else read_numbers(series, decimal)
    if numbers is None and problem == "regression":
        example = series.dropna().astype(str).head(1).tolist()
        raise DataError(f"target {name!r} holds no numbers but {', '.join(example) or 'nothing'}")
    codes, spellings = values.levels(series)
    known = codes >= 0 if numbers is None else ~np.isnan(numbers.values)
    rows = int(known.sum())
    if not rows:
        raise DataError(f"target {name!r} is missing in every row")
    if numbers is not None:
        refuse_infinite(name, numbers.values)
    if rows < LEAST_ROWS:
        raise DataError(
            f"target {name!r} leaves {rows} usable row{'s' if rows > 1 else ''}; "
            f"learning takes at least {LEAST_ROWS}"
        )
    lost = len(known) - rows
    notes = [f"{lost:,} rows have no target {name!r} and were left out"] if lost else []
    if numbers is None:
        return _of_words(series, codes, spellings, notes)
    notes += numbers.notes
    y = numbers.values[known]
    classes = _classes(series, y, known)
    if problem == "regression" or (problem == "auto" and not declared and not _few(classes)):
        return TargetColumn(y, known, "regression", notes, numbers.decimal)
    if problem == "auto":
        notes.append(
            f"target {name!r} has {len(np.unique(classes))} values and is taken as classes; "
            "problem='regression' takes it as a number"
        )
    return TargetColumn(classes, known, "multiclass", notes, numbers.decimal)


def _undeclared(series: pd.Series) -> pd.Series:
    """A category of numbers or truth values as these; `attrs["declared"]` says that it was one."""
    if not isinstance(series.dtype, pd.CategoricalDtype):
        return series
    kinds = series.cat.categories.dtype
    plainly = series.astype(object) if kinds.kind in "iufb" else series
    if kinds.kind in "iufb":
        plainly, _ = plain(plainly)
    plainly.attrs = {"declared": True}
    return plainly


def _only_cells(series: pd.Series) -> None:
    """Refuse dates, and cells that hold more than one value."""
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        raise DataError(f"target {series.name!r} holds dates; give a number or a class")
    if series.dtype == object:
        for cell in series:
            if isinstance(cell, (list, tuple, dict, set, np.ndarray)):
                raise DataError(
                    f"target {series.name!r} holds several values in a cell, such as "
                    f"{str(cell)[:60]}; give one number or one class a row"
                )


def _truth_values(series: pd.Series) -> bool:
    if pd.api.types.is_bool_dtype(series.dtype):
        return True
    return series.dtype == object and all(
        isinstance(value, (bool, np.bool_)) for value in series.dropna().unique()
    )


@dataclass
class Numbers:
    """A column as (n,) float64, missing as NaN, with the decimal sign that it was read by."""

    values: np.ndarray
    decimal: str = "."
    notes: list[str] = field(default_factory=list)


def read_numbers(series: pd.Series, decimal: str | None) -> Numbers | None:
    """The column as numbers where it is one, `$1,200` included; None where it is not."""
    if values.is_numeric(series):
        return Numbers(values.floats(series))
    if isinstance(series.dtype, pd.CategoricalDtype):
        return None
    codes, spellings = values.levels(series)
    told = [text for text in spellings if text.lower() not in values.MISSING_WORDS]
    style = numerals.number_style(told, decimal)
    if style is None or np.isnan(style.numbers).any():
        return None
    read = dict(zip(told, style.numbers, strict=True))
    found = np.array([*(read.get(text, np.nan) for text in spellings), np.nan])[codes]
    notes = []
    if style.open:
        other = "," if style.sign == "." else "."
        text = next(text for text, number in read.items() if number != numerals.number(text, other))
        notes.append(
            f"target {series.name!r}: {text} was read as {read[text]:g}, "
            "which its column leaves open"
        )
    return Numbers(found, style.sign, notes)


def refuse_infinite(name: Any, numbers: np.ndarray) -> None:
    """Raise where a target has no end."""
    if np.isinf(numbers).any():
        count = int(np.isinf(numbers).sum())
        raise DataError(f"target {name!r} is infinite in {count:,} rows; correct or remove them")


def _of_words(
    series: pd.Series, codes: np.ndarray, spellings: list[str], notes: list[str]
) -> TargetColumn:
    """Classes of words or truth values."""
    known = codes >= 0
    if _truth_values(series):
        return TargetColumn(series[known].to_numpy(bool), known, "binary", notes)
    for place, word in enumerate(spellings):
        rows = int((codes == place).sum())
        if word.lower() in values.MISSING_WORDS and rows:
            notes.append(
                f"target {series.name!r}: {word!r} is a class, in {rows:,} rows; leave the cell "
                "empty where a row has no class"
            )
    return TargetColumn(np.array(spellings)[codes[known]], known, "multiclass", notes)


def _classes(series: pd.Series, y: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The classes that numbers name: exact whole numbers, or the spelling of others."""
    if series.dtype.kind in "iu":
        bits: Any = np.uint64 if series.dtype.kind == "u" and series.max() >= 2**63 else np.int64
        return series[known].to_numpy(bits)
    if np.equal(np.floor(y), y).all() and np.abs(y).max() <= numerals.EXACT:
        return y.astype(np.int64)
    return np.array([values.level(number) for number in y])


def _few(classes: np.ndarray) -> bool:
    """Whether values, each known by its class, are few enough to be classes."""
    if classes.dtype.kind == "U":  # fractions
        return False
    names, counts = np.unique(classes, return_counts=True)
    large = max(abs(int(names[0])), abs(int(names[-1]))) > numerals.EXACT
    return len(names) <= 2 or ((len(names) <= 20 or large) and len(classes) >= 10 * len(names))
