"""Read the column to predict, and refuse one that nothing can be learned from.

Rows without a target are left out and counted. An infinite target, fewer than ten usable rows, or
a single value in all of them is an error: no metric on it means anything.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from stackwise.errors import DataError, nearest
from stackwise.tasks.table import values
from stackwise.tasks.table.metrics import Problem

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
    """

    y: np.ndarray
    known: np.ndarray
    problem: Problem
    notes: list[str] = field(default_factory=list)


def read_target(series: pd.Series, problem: str = "auto") -> TargetColumn:
    """Read a target and decide the problem.

    Args:
        problem: `regression`, `classification` (or `binary`, `multiclass`), or `auto`: text,
            truth values and numbers of two values are classes; whole numbers of at most 20 values
            that come ten times each are classes too; other numbers are not.

    Raises:
        DataError: as the module says, or the column does not fit the problem.
    """
    if problem not in _ASKED:
        raise DataError(f"there is no problem {problem!r}.{nearest(problem, _ASKED)}")
    read = _values(series, problem)
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


def read_as(series: pd.Series, like: TargetColumn) -> TargetColumn:
    """Read the target of a further file as that of the first was read."""
    if like.problem == "regression":
        return _values(series, "regression", least=1)
    read = _values(series, "classification", least=1)
    if read.y.dtype.kind != like.y.dtype.kind:
        read.y = read.y.astype(like.y.dtype)
    read.problem = like.problem
    return read


def _values(series: pd.Series, problem: str, least: int = LEAST_ROWS) -> TargetColumn:
    name = series.name
    series = series.infer_objects()
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        raise DataError(f"target {name!r} holds dates; give a number or a class")
    numbers = _numbers(series)
    if numbers is None and problem == "regression":
        example = series.dropna().astype(str).head(1).tolist()
        raise DataError(f"target {name!r} holds no numbers but {', '.join(example) or 'nothing'}")
    if numbers is None:
        codes, spellings = values.levels(series)
        known = codes >= 0
    else:
        known = ~np.isnan(numbers)
    rows = int(known.sum())
    if not rows:
        raise DataError(f"target {name!r} is missing in every row")
    if numbers is not None and np.isinf(numbers).any():
        count = int(np.isinf(numbers).sum())
        raise DataError(f"target {name!r} is infinite in {count:,} rows; correct or remove them")
    if rows < least:
        raise DataError(
            f"target {name!r} leaves {rows} usable row{'s' if rows > 1 else ''}; "
            f"learning takes at least {LEAST_ROWS}"
        )
    lost = len(known) - rows
    notes = [f"{lost:,} rows have no target {name!r} and were left out"] if lost else []
    if numbers is not None:
        y = numbers[known]
        if problem == "regression" or (problem == "auto" and not _few_levels(y)):
            return TargetColumn(y, known, "regression", notes)
        if problem == "auto":
            notes.append(
                f"target {name!r} has {len(np.unique(y))} values and is taken as classes; "
                "problem='regression' takes it as a number"
            )
        whole = np.equal(np.floor(y), y).all()
        return TargetColumn(y.astype(np.int64) if whole else y, known, "multiclass", notes)
    present = series[known]
    if all(isinstance(value, (bool, np.bool_)) for value in present.unique()):
        return TargetColumn(present.to_numpy(bool), known, "binary", notes)
    return TargetColumn(np.array(spellings)[codes[known]], known, "multiclass", notes)


def _numbers(series: pd.Series) -> np.ndarray | None:
    """The column as numbers where it is one, `$1,200` included; None where it is not."""
    if values.is_numeric(series):
        return values.floats(series)
    if pd.api.types.is_bool_dtype(series.dtype) or isinstance(series.dtype, pd.CategoricalDtype):
        return None
    codes, spellings = values.levels(series)
    told = [text for text in spellings if text.lower() not in values.MISSING_WORDS]
    style = values.number_style(told)
    if style is None or np.isnan(style[1]).any():
        return None
    if all(isinstance(value, (bool, np.bool_)) for value in series.dropna().unique()):
        return None
    read = dict(zip(told, style[1], strict=True))
    return np.array([*(read.get(text, np.nan) for text in spellings), np.nan])[codes]


def _few_levels(y: np.ndarray) -> bool:
    distinct = len(np.unique(y))
    whole = bool(np.equal(np.floor(y), y).all())
    return distinct <= 2 or (whole and distinct <= 20 and len(y) >= 10 * distinct)
