"""What a model was told about its columns, so that a new table is read in just the same way.

    numbers  -> quantiles of a normal (or standardised), missing -> 0 and a category that says so
    dates    -> a number (the day), and sine and cosine of the year, the week and the day
    text     -> signed hashed word counts of unit length
    booleans and categories -> codes 0 .. cardinality - 1; a missing value has its own code where
                training had missing ones; a value never seen has the code `cardinality`, which a
                one-hot layer takes as all zeros; a column with several values in a cell becomes
                as many codes as its fullest cell has, `cardinality` where there is none

Everything is fitted on the rows given to `fit` and nothing else. A contract is JSON and tensors.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from stackwise.errors import DataError, nearest
from stackwise.tasks.labelled.counted import UnseenCategories
from stackwise.tasks.table.features import by_column
from stackwise.tasks.table.features.scaling import NumberScaler, Scaling
from stackwise.tasks.table.reading.columns import Column, Kind
from stackwise.tasks.table.reading.inference import infer_columns
from stackwise.tasks.table.reading.vocabulary import Vocabulary
from stackwise.tasks.table.source import as_frame, with_index

FORMAT = 1
SMALLEST = 1e-312
"""Below it float64 holds fewer than four digits."""
BLOCK = 65_536
"""Rows that are read at once: what bounds the memory of `transform`."""

_CYCLES = {"day of the year": 365.2425, "day of the week": 7.0, "time of day": 1.0}


@dataclass
class TableArrays:
    """A table as a network takes it.

    Attributes:
        numeric: (n, n_numeric) float32.
        categorical: (n, n_categorical) int64; code `cardinality` means never seen.
        unseen: rows with a value that training did not see, by column.
    """

    numeric: np.ndarray
    categorical: np.ndarray
    unseen: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numeric)


class FeatureContract:
    """Turns tables into arrays, in the way that was fitted.

    Attributes:
        columns: what was found in each column.
        numeric_names: names of the numeric features, in their order.
        categorical_names: names of the categorical features, in their order.
        cardinalities: codes of each categorical feature, without the one for unseen values.
        slots: how many neighbouring categorical features each column of categories became: 1, or
            more where its cells hold several values.
    """

    columns: list[Column]
    numeric_names: list[str]
    categorical_names: list[str]
    cardinalities: list[int]
    slots: list[int]

    def fit(
        self,
        frame: Any,
        *,
        numeric: Scaling = "quantile",
        categorical: Iterable[str] | str = "auto",
        indicators: bool = True,
        keep_missing: bool = False,
        vocabulary: Vocabulary | None = None,
        seed: int | None = 0,
        columns: Sequence[Column] | None = None,
        keep: Iterable[str] = (),
    ) -> "FeatureContract":
        """Learn from training rows what the columns hold and how they scale.

        Args:
            frame: pandas or polars frame, or a two-dimensional array (columns x0, x1, ...).
            numeric: `quantile`, `standard`, or None for numbers as they are.
            categorical: further columns to take as categories, although they hold numbers.
            indicators: add a category that says where a number or date was missing in training.
            keep_missing: leave missing numbers NaN, for learners that take them; no indicators.
            vocabulary: which values of a category get a code of their own.
            seed: of the noise that parts equal values before quantiles are taken.
            columns: what the columns of these rows hold, where that is known already; asked again
                only where `categorical` or `vocabulary` want them read otherwise.
            keep: columns that are used although they look like identifiers.

        Raises:
            DataError: two columns have one name, or nothing is left to learn from.
        """
        if numeric not in ("quantile", "standard", None):
            raise DataError(
                f"numbers are scaled by 'quantile', 'standard' or None, not {numeric!r}"
            )
        self.named = not isinstance(frame, np.ndarray)
        table = as_frame(frame)
        kinds: dict[str, Kind] = {}
        if not isinstance(categorical, str):
            kinds = {str(name): "category" for name in categorical}
        if columns is None or kinds or vocabulary is not None:
            columns = infer_columns(
                table, kinds=kinds, identifiers=self.named, vocabulary=vocabulary, keep=keep
            )
        self.columns = list(columns)
        if not any(column.used for column in self.columns):
            raise DataError(_nothing_left(self.columns))
        self.scaler = NumberScaler(numeric, keep_missing=keep_missing)
        self.indicators = indicators and not keep_missing
        self._arrange()
        table = _renamed(table)
        measured = [self._measure(column, table[column.name]) for column in self._scaled]
        for column, numbers in zip(self._scaled, measured, strict=True):
            _check_told_apart(column.name, numbers)
        self.scaler.fit(measured, seed)
        return self

    def _arrange(self) -> None:
        """Name the features that the columns become."""
        self._scaled = [column for column in self.columns if column.kind in ("number", "date")]
        dates = [column for column in self.columns if column.kind == "date"]
        self._cycles = [
            (column, part) for column in dates for part in column.detail["parts"] if part in _CYCLES
        ]
        self._texts = [column for column in self.columns if column.kind == "text"]
        self.numeric_names = [column.name for column in self._scaled]
        for column, part in self._cycles:
            self.numeric_names += [f"{column.name} {part} {wave}" for wave in ("sine", "cosine")]
        for column in self._texts:
            self.numeric_names += [f"{column.name} word {i}" for i in range(column.detail["width"])]
        coded = [column for column in self.columns if column.kind in ("boolean", "category")]
        self._coded = [column for column in coded if "separator" not in column.detail]
        self._several = [column for column in coded if "separator" in column.detail]
        self._flagged = [
            column
            for column in self._scaled
            if self.indicators and column.detail["missing"] + column.detail.get("infinite", 0)
            + column.detail["unreadable"]
        ]  # fmt: skip
        self.categorical_names = [column.name for column in self._coded]
        self.categorical_names += [f"{column.name} is missing" for column in self._flagged]
        self.cardinalities = [by_column.cardinality(column) for column in self._coded]
        self.cardinalities += [2] * len(self._flagged)
        self.slots = [1] * len(self.cardinalities)
        for column in self._several:
            slots = column.detail["slots"]
            self.categorical_names += [f"{column.name} {slot + 1}" for slot in range(slots)]
            self.cardinalities += [by_column.cardinality(column)] * slots
            self.slots.append(slots)

    @property
    def n_numeric(self) -> int:
        """Numeric features."""
        return len(self.numeric_names)

    @property
    def n_categorical(self) -> int:
        """Categorical features."""
        return len(self.categorical_names)

    @property
    def input_names(self) -> list[str]:
        """The columns that a table must have; the dropped ones may be absent."""
        return [column.name for column in self.columns if column.used]

    @property
    def text_names(self) -> list[str]:
        """Columns that a file must be read as text, so that 007 stays 007."""
        return [
            column.name
            for column in self.columns
            if column.used and (column.kind == "text" or column.detail.get("values") == "text"
            or column.detail.get("format"))
        ]  # fmt: skip

    def transform(self, frame: Any) -> TableArrays:
        """Read a table. The order of its columns does not matter; further ones are ignored.

        Raises:
            DataError: a column is missing, or holds what it did not hold in training.

        Warns:
            UnseenCategories: once, with the rows of each column counted.
        """
        table = self._checked(frame)
        rows = len(table)
        numeric = np.empty((rows, self.n_numeric), dtype=np.float32)
        categorical = np.empty((rows, self.n_categorical), dtype=np.int64)
        unseen: dict[str, int] = {}
        examples: dict[str, str] = {}
        for start in range(0, rows, BLOCK):
            block = slice(start, start + BLOCK)
            self._read(table.iloc[block], numeric[block], categorical[block], unseen, examples)
        if unseen:
            warnings.warn(UnseenCategories(unseen, examples), stacklevel=2)
        return TableArrays(numeric, categorical, unseen)

    def _checked(self, frame: Any) -> pd.DataFrame:
        if isinstance(frame, np.ndarray) and frame.ndim == 2:
            if frame.shape[1] != len(self.columns):
                raise DataError(
                    f"the array has {frame.shape[1]} columns; training had {len(self.columns)}"
                )
            table = as_frame(frame)
            if self.named:
                table.columns = [column.name for column in self.columns]
            return table
        table = _renamed(as_frame(frame))
        missing = [name for name in self.input_names if name not in table.columns]
        if set(missing) & set(table.index.names):
            table = _renamed(with_index(table))
            missing = [name for name in missing if name not in table.columns]
        if missing:
            rest = [name for name in table.columns if name not in self.input_names]
            listed = ", ".join(repr(name) for name in missing[:8])
            more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
            hint = nearest(missing[0], rest) if rest else ""
            plural = "columns" if len(missing) > 1 else "column"
            raise DataError(f"the table lacks the {plural} {listed}{more} of training.{hint}")
        twice = table.columns[table.columns.duplicated()]
        if len(twice):
            raise DataError(f"the column name {twice[0]!r} appears twice; give each its own name")
        return table

    def _read(
        self,
        table: pd.DataFrame,
        numeric: np.ndarray,
        categorical: np.ndarray,
        unseen: dict[str, int],
        examples: dict[str, str],
    ) -> None:
        """Fill the rows of one block."""
        width = len(self._scaled)
        measured = np.empty((len(table), width))
        place_of = {}
        for place, column in enumerate(self._scaled):
            measured[:, place] = self._measure(column, table[column.name])
            place_of[column.name] = place
        numeric[:, :width] = self.scaler.transform(measured)
        at = width
        for column, part in self._cycles:
            day = measured[:, place_of[column.name]]
            angle = 2 * math.pi * np.nan_to_num(day / _CYCLES[part] % 1.0)
            known = ~np.isnan(day)
            numeric[:, at] = np.sin(angle) * known
            numeric[:, at + 1] = np.cos(angle) * known
            at += 2
        for column in self._texts:
            words = by_column.hashed(table[column.name], column.detail["width"])
            numeric[:, at : at + words.shape[1]] = words
            at += words.shape[1]

        def note(column: Column, count: int, example: str) -> None:
            if count:
                unseen[column.name] = unseen.get(column.name, 0) + count
                examples.setdefault(column.name, example)

        for place, column in enumerate(self._coded):
            found, count, example = by_column.codes(column, table[column.name])
            categorical[:, place] = found
            note(column, count, example)
        for place, column in enumerate(self._flagged, start=len(self._coded)):
            categorical[:, place] = np.isnan(measured[:, place_of[column.name]])
        at = len(self._coded) + len(self._flagged)
        for column in self._several:
            found, count, example = by_column.several_codes(column, table[column.name])
            categorical[:, at : at + found.shape[1]] = found
            note(column, count, example)
            at += found.shape[1]

    def _measure(self, column: Column, series: pd.Series) -> np.ndarray:
        """A number or date column as (n,) float64; missing, infinite and unreadable as NaN."""
        series = series.infer_objects()
        found = (
            by_column.dates(column, series)
            if column.kind == "date"
            else by_column.numbers(column, series)
        )
        return np.where(np.isinf(found), np.nan, found)

    def report(self) -> list[dict[str, str]]:
        """`column`, `kind` and `done` of every input column."""
        rows = [column.report() for column in self.columns]
        flagged = {column.name for column in self._flagged}
        for row in rows:
            if row["column"] in flagged:
                row["done"] += "; a category says where"
        return rows

    def to_json(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The contract as JSON and tensors; `from_json` gives it back, bit for bit."""
        return {
            "format": FORMAT,
            "named": self.named,
            "numeric": self.scaler.scaling,
            "keep_missing": self.scaler.keep_missing,
            "indicators": self.indicators,
            "columns": [column.as_dict() for column in self.columns],
        }, dict(self.scaler.tensors)

    @classmethod
    def from_json(cls, record: dict[str, Any], tensors: dict[str, Tensor]) -> "FeatureContract":
        """The inverse of `to_json`."""
        if record.get("format", 0) > FORMAT:
            raise DataError(
                f"the feature contract has format {record['format']}, written by a newer "
                f"stackwise; this one reads up to {FORMAT}"
            )
        contract = cls()
        contract.named = record["named"]
        contract.columns = [Column.from_dict(item) for item in record["columns"]]
        contract.scaler = NumberScaler(record["numeric"], keep_missing=record["keep_missing"])
        contract.scaler.tensors = dict(tensors)
        contract.indicators = record["indicators"]
        contract._arrange()
        return contract


def _renamed(table: pd.DataFrame) -> pd.DataFrame:
    if all(isinstance(name, str) for name in table.columns):
        return table
    return table.set_axis([str(name) for name in table.columns], axis=1)


def _check_told_apart(name: str, numbers: np.ndarray) -> None:
    """Nothing where the numbers of a column have digits left to learn from.

    Raises:
        DataError: all of them are so near 0 that a computer keeps next to none.
    """
    largest = float(np.nanmax(np.abs(numbers), initial=0.0))
    if 0 < largest < SMALLEST:
        raise DataError(
            f"the numbers of column {name!r} reach {largest:.3g} at most, where a computer keeps "
            "next to no digits; give it in a smaller unit"
        )


def _nothing_left(columns: list[Column]) -> str:
    if not columns:
        return "the table has no column to learn from besides the target"
    listed = "; ".join(f"{column.name!r} {column.detail['why']}" for column in columns[:4])
    return f"no column is left to learn from: {listed}"
