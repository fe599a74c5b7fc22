"""What a source of samples with labels holds, before a sample is read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError, nearest

PARTS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Folders and files that are a part, by their lower-case names."""
LABEL = "label"
"""The column of labels where nobody names one, as Hugging Face calls it."""


@dataclass
class Found:
    """The samples of a source.

    Attributes:
        samples: n of them, as their kind of data has them: paths, bytes, texts, rows of an array.
        names: what each is called: its path below the source, or its number.
        labels: (n,) objects, None where a sample has none; None where no sample has one.
        parts: (n,) objects train, validation or test; None where the source has no parts.
        columns: (n, ...) what else is known of each; without a column where there is nothing.
        notes: sentences about what was found and left out.
    """

    samples: Any
    names: list[str]
    labels: np.ndarray | None = None
    parts: np.ndarray | None = None
    columns: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not len(self.columns.columns):
            self.columns = pd.DataFrame(index=pd.RangeIndex(len(self)))

    def __len__(self) -> int:
        return len(self.names)


def objects(values: Iterable[object]) -> np.ndarray:
    """(n,) objects, also where the values are lists."""
    listed = list(values)
    made = np.empty(len(listed), dtype=object)
    made[:] = listed
    return made


def parts_of(names: Sequence[str | None]) -> np.ndarray | None:
    """The part of each by the name of its folder or file; None where one has none."""
    found = [PARTS.get((name or "").lower()) for name in names]
    return None if None in found else objects(found)


def labels_among(
    frame: pd.DataFrame, target: str | None, what: str, *, needed: bool
) -> np.ndarray | None:
    """The labels in a column: the one named `target`, or `label` where none is named.

    Raises:
        DataError: there is no column `target` and it is needed.
    """
    name = LABEL if target is None else target
    if name not in frame.columns:
        if target is None or not needed:
            return None
        raise DataError(f"{what} has no column {name!r}.{nearest(name, map(str, frame.columns))}")
    column = frame[name].astype(object)
    return objects(column.where(column.notna(), None).tolist())


def count(number: int, what: str) -> str:
    """A number of things in a sentence: 1 file, 2 files."""
    return f"{number:,} {what if number == 1 else several(what)}"


def several(what: str) -> str:
    """The name of a thing, for several of them."""
    return what if what.endswith("s") else f"{what}s"


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, in a sentence."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
