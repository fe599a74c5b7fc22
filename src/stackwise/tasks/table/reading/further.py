"""Read the target of a further file as that of the first was read.

Numbers are read by the first one's decimal sign. Classes are matched by what they mean, never cast:
a label is a class where it is spelled like it, is the same number (1, 1.0 and "1"), or is the same
truth value while the classes are just a no and a yes. A label that matches none stays as it is
where the classes' type has room for it, and is refused where it has not.
"""

import re
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError
from stackwise.tasks.labelled import numerals, values
from stackwise.tasks.table.reading.target_column import TargetColumn, refuse_infinite

_WHOLE = re.compile(r"([+-]?\d+)(?:\.0*)?")


def read_as(series: pd.Series, like: TargetColumn) -> TargetColumn:
    """Read the target of a further file.

    Raises:
        DataError: it is missing in every row, or holds what the first file's target cannot be.
    """
    numbers = like.problem == "regression"
    y = _numbers(series, like.decimal) if numbers else _labels(series, like)
    known = ~pd.isna(y)
    if not known.any():
        raise DataError(f"target {series.name!r} is missing in every row")
    lost = int((~known).sum())
    notes = [f"{lost:,} rows have no target {series.name!r} and were left out"] if lost else []
    dtype = None if like.y.dtype.kind == "U" else like.y.dtype
    kept: Any = y[known]
    read = kept.astype(str) if dtype is None else kept.astype(dtype)
    return TargetColumn(read, known, like.problem, notes, like.decimal)


def _numbers(series: pd.Series, decimal: str) -> np.ndarray:
    if values.is_numeric(series):
        found = values.floats(series)
    else:
        codes, spellings = values.levels(series)
        read = numerals.numbers(spellings, decimal)
        for text, number in zip(spellings, read, strict=True):
            if np.isnan(number) and text.lower() not in values.MISSING_WORDS:
                raise DataError(
                    f"target {series.name!r} holds {text!r}, where the first table holds numbers"
                )
        found = np.append(read, np.nan)[codes]
    refuse_infinite(series.name, found)
    return found


def _labels(series: pd.Series, like: TargetColumn) -> np.ndarray:
    """(n,) objects: the class of each row, None where it has none."""
    classes = np.unique(like.y)
    codes, spellings = values.levels(series)
    typed = classes.dtype.kind != "U"
    found: list[Any] = [_class_of(text, classes, like.decimal) for text in spellings]
    strange = []
    for place, text in enumerate(spellings):
        if found[place] is None and not (typed and text.lower() in values.MISSING_WORDS):
            strange.append(place)
            found[place] = _room_for(text, classes)
    refused = next((place for place in strange if found[place] is None), None)
    if strange and len(strange) == len(spellings):
        refused = strange[0]
    if refused is not None:
        rows = int((codes == refused).sum())
        listed = ", ".join(str(name) for name in classes[:5])
        raise DataError(
            f"target {series.name!r} is {spellings[refused]!r} in {rows:,} rows, which is no class "
            f"of the first table, such as {listed}"
        )
    return np.array([*found, None], dtype=object)[codes]


def _class_of(text: str, classes: np.ndarray, decimal: str) -> Any:
    """The class that a label means, or None."""
    spelled = {values.level(name): name for name in classes.tolist()}
    if text in spelled:
        return spelled[text]
    whole = _WHOLE.fullmatch(text)
    if whole is not None and (classes.dtype.kind in "iu" or text.endswith("0")):
        plainly = whole[1] if classes.dtype.kind == "U" else str(int(whole[1]))
        if plainly in spelled:
            return spelled[plainly]
    if classes.dtype.kind in "iu" and whole is None:
        number = numerals.number(text, decimal)
        if np.isfinite(number) and values.level(number) in spelled:
            return spelled[values.level(number)]
    if not values.are_truths(list(spelled)):
        return None
    truth = int(values.truths([text], list(spelled))[0])
    same = [name for level, name in spelled.items() if int(values.truths([level])[0]) == truth]
    return same[0] if truth >= 0 else None


def _room_for(text: str, classes: np.ndarray) -> Any:
    """The label as one more class of the same type; None where it cannot be."""
    if classes.dtype.kind == "U":
        return text
    whole = _WHOLE.fullmatch(text)
    if classes.dtype.kind not in "iu" or whole is None:
        return None
    number, limits = int(whole[1]), np.iinfo(classes.dtype)
    return number if limits.min <= number <= limits.max else None
