"""Bring a table in as a task: read it, read its target, part its rows, find out its columns."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError, nearest
from stackwise.learning.metrics import Problem
from stackwise.protocols import Part
from stackwise.tasks.labelled.options import check_max_rows, kept_options, share_of
from stackwise.tasks.labelled.split import How, split_parts, thin
from stackwise.tasks.labelled.task import classes_of
from stackwise.tasks.table.cautions import cautions
from stackwise.tasks.table.reading.columns import Column
from stackwise.tasks.table.reading.further import read_as
from stackwise.tasks.table.reading.inference import infer_columns
from stackwise.tasks.table.reading.said import said_of
from stackwise.tasks.table.reading.target_column import TargetColumn, read_target
from stackwise.tasks.table.source import read_table

_DEFAULTS = {
    "drop": [], "keep": [], "validation": 0.2, "test": 0.2, "problem": "auto", "split_seed": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Choices:
    """What a user says beside the source and the target; see `TableTask.load`.

    Raises:
        DataError: two columns are to split the rows, or too few are to be trained on.
    """

    sep: str | None
    encoding: str | None
    drop: tuple[str, ...]
    keep: tuple[str, ...]
    group: str | None
    time: str | None
    split: str | None
    validation: Any
    test: Any
    problem: str
    max_rows: int | None
    split_seed: int

    def __post_init__(self) -> None:
        given = [name for name in ("group", "time", "split") if getattr(self, name) is not None]
        if len(given) > 1:
            flags = " and ".join(f"--{name}" for name in given)
            raise DataError(f"rows are split by one column: give one of {flags}")
        check_max_rows(self.max_rows)

    @property
    def splits_by(self) -> str | None:
        """The column that parts the rows."""
        return self.group or self.time or self.split

    def as_options(self, metric: str | None, split: str | None) -> dict[str, Any]:
        """The options that differ from their defaults, as JSON, for repeating the load."""
        given = {
            "sep": self.sep, "encoding": self.encoding, "drop": list(self.drop),
            "keep": list(self.keep), "group": self.group, "time": self.time, "split": split,
            "validation": self.validation, "test": self.test, "metric": metric,
            "problem": self.problem, "max_rows": self.max_rows, "split_seed": self.split_seed,
        }  # fmt: skip
        return kept_options(given, _DEFAULTS)


@dataclass
class Loaded:
    """A table that was read and parted.

    Attributes:
        target: the column to predict. problem: what that asks for.
        split: the column that names the parts, where there is one.
        parts: features and target of each part; the frame's index is the row in the source.
        classes: the sorted classes of the training part; None for regression.
        groups: by row, what keeps rows together.
        found: what the columns hold.
        notes: sentences that a user should know.
    """

    target: str
    problem: Problem
    split: str | None
    parts: dict[Part, tuple[pd.DataFrame, np.ndarray]]
    classes: np.ndarray | None
    groups: pd.Series | None
    found: list[Column]
    notes: list[str] = field(default_factory=list)

    def described(self, choices: Choices) -> list[dict[str, str]]:
        """`column`, `kind` and `done` of every column of the source."""
        rows = [{"column": self.target, "kind": "target", "done": self.problem}]
        rows += [column.report() for column in self.found]
        left = [*((name, "as asked") for name in choices.drop),
                (choices.group, "groups the rows"), (self.split, "names the parts")]  # fmt: skip
        rows += [
            {"column": name, "kind": "dropped", "done": f"dropped: {why}"}
            for name, why in left
            if name is not None
        ]
        return rows


def load_parts(source: Any, target: str | None, choices: Choices) -> Loaded:
    """Read a table and part its rows.

    Raises:
        DataError: one sentence about what cannot be used, and what would be right.
    """
    frame = _prepared(read_table(source, sep=choices.sep, encoding=choices.encoding))
    words = frame.attrs.get("words", {})
    target = frame.attrs.get("target") if target is None else target
    frame, split = _parting_column(frame, choices)
    if target is None:
        raise DataError(
            f"say which column to predict (--target); there is {_listed(list(frame.columns))}"
        )
    _check_names(frame, target, choices, split)

    found = read_target(frame[target], choices.problem, frame.attrs.get("decimal"))
    notes = [*found.notes]
    if not found.known.all():
        frame = frame[found.known]
    own, shares = _own_parts(frame, target, found, choices, notes)
    how: How = "random" if found.problem == "regression" else "stratified"
    by = choices.group or choices.time or split
    if by is not None:
        how = "group" if choices.group else "time" if choices.time else "given"
    rows = split_parts(
        frame, found.y, how=how, column=by, seed=choices.split_seed,
        test=shares["test"], validation=shares["validation"],
    )  # fmt: skip
    thin(rows, choices.max_rows, choices.split_seed)
    notes += rows.notes
    features = _features(frame, target, choices, split)
    picked: dict[Part, np.ndarray] = {
        "train": rows.train, "validation": rows.validation, "test": rows.test
    }  # fmt: skip
    parts = {part: (features.iloc[taken], found.y[taken]) for part, taken in picked.items()}
    parts |= {part: (X[features.columns], y) for part, (X, y) in own.items()}
    classes = _classes(parts, target, found.problem, notes)
    columns = usable_columns(parts["train"][0], target, choices.keep)
    notes += said_of(columns, {name: words[name] for name in features if name in words})
    notes += cautions(parts, columns, target, classes=classes is not None, own=own)
    groups = None if choices.group is None or own else frame[choices.group]
    return Loaded(target, found.problem, split, parts, classes, groups, columns, notes)


def _prepared(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with text names and row numbers as its index; its data is not copied."""
    names = [str(name) for name in frame.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"the column name {repeated[0]!r} appears twice; give each its own name")
    attrs = frame.attrs
    frame = frame.set_axis(names, axis=1).reset_index(drop=True)
    frame.attrs = dict(attrs)
    return frame


def _parting_column(frame: pd.DataFrame, choices: Choices) -> tuple[pd.DataFrame, str | None]:
    """The frame, and the column that names the parts: the user's, or that of a folder of parts."""
    named = frame.attrs.get("split")
    if named is None or choices.split == named:
        return frame, choices.split
    if choices.splits_by is None:
        return frame, named
    return frame.drop(columns=named), choices.split


MOST_NAMED = 60
"""Column names in a sentence."""


def _listed(names: Sequence[str]) -> str:
    """Column names, each as it is written; the last ones stand too, where targets often are."""
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    half = MOST_NAMED // 2
    between = f"({len(names) - MOST_NAMED} more)"
    return ", ".join([*names[:half], between, *names[-half:]])


def _check_names(frame: pd.DataFrame, target: str, choices: Choices, split: str | None) -> None:
    by = [name for name in (choices.group, choices.time, split) if name]
    for name in (target, *choices.drop, *choices.keep, *by):
        if name not in frame.columns:
            raise DataError(f"there is no column {name!r}.{nearest(name, frame.columns)}")
    if target in (*choices.drop, *by):
        raise DataError(f"{target!r} is the target; it cannot be dropped or split by")


def _own_parts(
    frame: pd.DataFrame, target: str, like: TargetColumn, choices: Choices, notes: list[str]
) -> tuple[dict[Part, tuple[pd.DataFrame, np.ndarray]], dict[Part, float]]:
    """The parts that have a file of their own, and the shares of the others."""
    own: dict[Part, tuple[pd.DataFrame, np.ndarray]] = {}
    shares: dict[Part, float] = {}
    asked: dict[Part, Any] = {"validation": choices.validation, "test": choices.test}
    for part, wanted in asked.items():
        share = share_of(part, wanted)
        if share is None:
            own[part] = _own_part(part, wanted, target, like, frame, choices, notes)
        shares[part] = share or 0.0
    return own, shares


def _own_part(
    part: str,
    source: Any,
    target: str,
    like: TargetColumn,
    frame: pd.DataFrame,
    choices: Choices,
    notes: list[str],
) -> tuple[pd.DataFrame, np.ndarray]:
    """A validation or test part of its own, in the format of the training table: what was text
    there is text here.
    """
    as_text = [name for name in frame.columns if isinstance(frame[name].dtype, pd.StringDtype)]
    own = _prepared(read_table(source, sep=choices.sep, encoding=choices.encoding, as_text=as_text))
    lacking = [name for name in frame.columns if name not in own.columns]
    if lacking:
        raise DataError(
            f"the {part} table lacks the column {lacking[0]!r}.{nearest(lacking[0], own)}"
        )
    read = read_as(own[target], like)
    notes += [f"{part} table: {note}" for note in read.notes]
    return own[read.known], read.y


def _features(
    frame: pd.DataFrame, target: str, choices: Choices, split: str | None
) -> pd.DataFrame:
    left_out = [target, *choices.drop, *(name for name in (choices.group, split) if name)]
    unused = [name for name in choices.keep if name in left_out]
    if unused:
        raise DataError(f"column {unused[0]!r} cannot be kept: it is no feature in this table")
    return frame.drop(columns=list(dict.fromkeys(left_out)))


def _classes(
    parts: dict[Part, tuple[pd.DataFrame, np.ndarray]],
    target: str,
    problem: Problem,
    notes: list[str],
) -> np.ndarray | None:
    """The classes of the training part, which has at least two values of its target."""
    y = parts["train"][1]
    if len(y) and (y == y[0]).all():
        raise DataError(f"target {target!r} is always {y[0]} in the training part; split otherwise")
    if problem == "regression":
        return None
    return classes_of(parts, notes)


def usable_columns(X: pd.DataFrame, target: str, keep: tuple[str, ...]) -> list[Column]:
    """What the columns of the training part hold; one that teaches nothing at all is refused."""
    found = infer_columns(X, keep=keep)
    if not any(column.used for column in found):
        dropped = "; ".join(f"{column.name!r} {column.detail['why']}" for column in found[:4])
        raise DataError(
            f"no column is left to learn {target!r} from"
            + (f": {dropped}" if dropped else "; the table has no other column")
        )
    return found


def title_of(source: Any) -> str:
    """What a source is called: its file's name, or its type."""
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        return text if text.startswith("hf://") else Path(text).stem
    return type(source).__name__
