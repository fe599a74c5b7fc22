"""Find the series of a source, of whichever kind it is, and what is known of each.

engines.ts, or engines_TRAIN.ts beside engines_TEST.ts, or a folder of such a pair
machines.csv, .parquet, .arrow, .jsonl, a frame     see `reading.tables`
X.npz, X.npy, or a folder with X.npy and y.npy      (n, channels, length) or (n, length)
a named set (`stackwise data`)
in Python an array, a list of arrays, or (series, targets)
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError, nearest
from stackwise.marks import ending, is_path
from stackwise.tasks.labelled.array_files import labels_beside, mapped, npz_arrays
from stackwise.tasks.labelled.found import Found, objects, some
from stackwise.tasks.labelled.parting import joined_sources
from stackwise.tasks.series.marks import ENDINGS, SERIES
from stackwise.tasks.series.reading.tables import TableSeries, series_of
from stackwise.tasks.series.reading.ts_format import read_ts
from stackwise.tasks.series.reading.windows import as_found
from stackwise.tasks.series.series import Series, as_values
from stackwise.tasks.table.source import read_table

TRAIN, TEST = "_train", "_test"
"""Ends of the names of two files that belong together, in lower case."""
LABELS = ("label", "target", "class", "y")
"""Columns of the target where nobody names one, the first choice first."""


@dataclass(frozen=True)
class Reading:
    """How a source is read.

    Attributes:
        target: the column to predict. series, time: columns of a table whose rows are moments.
        horizon: moments ahead that are forecast; None for one answer a series.
        window: moments that a forecast looks back on. group: a column that is no channel.
        channels, layout: of the training source, once it was read.
    """

    target: str | None = None
    series: str | None = None
    time: str | None = None
    horizon: int | None = None
    window: int = 64
    group: str | None = None
    channels: tuple[str, ...] | None = None
    layout: str | None = None

    def as_json(self) -> dict[str, Any]:
        """What a fitted learner keeps, so that new sources are read alike."""
        kept = {name: getattr(self, name) for name in self.__dataclass_fields__}
        kept["channels"] = None if self.channels is None else list(self.channels)
        return {name: value for name, value in kept.items() if value is not None}

    @classmethod
    def of_json(cls, kept: dict[str, Any]) -> "Reading":
        """The inverse of `as_json`."""
        told = {name: kept[name] for name in cls.__dataclass_fields__ if name in kept}
        if "channels" in told:
            told["channels"] = tuple(told["channels"])
        return cls(**told)


@dataclass
class Bare:
    """Series as they were found, before a forecast cuts them into windows.

    Attributes:
        found: the series with what is known of each. channels: their names.
        times: of a table whose rows are moments, these, a series each. layout: of a table.
        problem: what the source says is predicted, where it does.
        named: of such a table the column that names its series. places: the rows of each.
    """

    found: Found
    channels: list[str]
    times: list[np.ndarray] | None = None
    layout: str | None = None
    problem: str | None = None
    named: str | None = None
    places: list[np.ndarray] | None = None


def find_series(source: Any, reading: Reading, *, labelled: bool = True) -> tuple[Found, Bare]:
    """The samples of a source: whole series with a label each, or windows with what follows.

    Returns:
        the samples, and the series that they came from.

    Raises:
        DataError: it cannot be read, or has no labels though they are needed.
    """
    bare = found_bare(source, reading, labelled=labelled)
    if reading.horizon is None:
        if labelled and bare.found.labels is None:
            what = source if is_path(source) else "this source"
            columns = some([str(name) for name in bare.found.columns.columns], 8)
            more = f" (it has {columns})" if columns else ""
            raise DataError(
                f"{what} has no labels: name the column to predict with --target{more}, give "
                "labels beside the series, or --horizon to forecast them"
            )
        return bare.found, bare
    if bare.found.parts is not None:
        raise DataError(
            "a forecast parts its series by time, and this source parts them already; give one of "
            "its files as the source and the other as --test"
        )
    channel = channel_of(bare.channels, reading.target)
    found = as_found(
        bare.found.samples, bare.found.names, channel, reading.window, reading.horizon,
        bare.found.notes,
    )  # fmt: skip
    return found, bare


def channel_of(channels: Sequence[str], target: str | None) -> int:
    """The channel that is forecast: the one named, or the only one.

    Raises:
        DataError: there is no such channel, or several and none is named.
    """
    if target is None:
        if len(channels) > 1:
            raise DataError(
                f"say with --target which channel is forecast: {some(list(channels), 8)}"
            )
        return 0
    if target not in channels:
        raise DataError(f"there is no channel {target!r}.{nearest(target, channels)}")
    return list(channels).index(target)


def found_bare(source: Any, reading: Reading, *, labelled: bool = True) -> Bare:
    """The series of a source, whole."""
    if isinstance(source, Series):
        return Bare(_of_values(source.values), source.channels)
    if isinstance(source, tuple) and len(source) == 2 and not is_path(source[0]):
        X, y = source
        if hasattr(X, "columns"):
            raise DataError("give a frame with its target in a column, and name it by target=")
        if isinstance(X, Series):
            return Bare(_of_values(X.values, y), X.channels)
        return _arrays(X, y)
    if not is_path(source):
        if hasattr(source, "columns"):
            return _table(source, reading, "this frame", labelled)
        return _arrays(source)
    path = Path(os.fspath(source))
    if path.is_dir():
        return _folder(path)
    kind = ending(path)
    if not path.exists():
        return _named(os.fspath(source), kind)
    if kind in ENDINGS:
        return _ts(path)
    if kind == ".npz":
        return _npz(path)
    if kind == ".npy":
        return _arrays(mapped(path))
    return _table(path, reading, str(path), labelled)


def _of_values(
    values: list[np.ndarray], labels: Any = None, names: list[str] | None = None
) -> Found:
    if not values:
        raise DataError("there are no series (0 sample(s)); at least 1 is needed")
    told = labels_beside(labels, len(values), SERIES)
    return Found(values, names or [str(row) for row in range(len(values))], told)


def _arrays(X: Any, y: Any = None) -> Bare:
    values = as_values(X)
    found = _of_values(values, y)
    return Bare(found, Series(values[:1]).channels)


def _npz(path: Path) -> Bare:
    parts = {
        part: _arrays(pair["X"], pair.get("y"))
        for part, pair in npz_arrays(path, SERIES, SERIES).items()
    }
    return _joined({str(part): bare for part, bare in parts.items()}, path)


def _folder(path: Path) -> Bare:
    if (path / "X.npy").is_file():
        labels = path / "y.npy"
        return _arrays(mapped(path / "X.npy"), mapped(labels) if labels.is_file() else None)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS)
    # of a set that is there in two forms, the one of the folder's own name
    own = [file for file in files if file.stem.lower() in (path.name.lower() + TRAIN,)]
    firsts = own or [file for file in files if file.stem.lower().endswith(TRAIN)] or files
    if len(firsts) != 1:
        listed = some([file.name for file in files]) or "no .ts file and no X.npy"
        raise DataError(f"{path} is a folder of {listed}; name one file of series")
    return _ts(firsts[0])


def _ts(path: Path) -> Bare:
    """A `.ts` file, with the test file beside it where it is one of a pair."""
    if not path.stem.lower().endswith(TRAIN):
        return _one_ts(path)
    stem = path.stem[: -len(TRAIN)]
    beside = {
        file.stem.lower(): file for file in path.parent.iterdir() if file.suffix == path.suffix
    }
    other = beside.get((stem + TEST).lower())
    if other is None:
        return _one_ts(path)
    made = _joined({"train": _one_ts(path), "test": _one_ts(other)}, path)
    made.found.notes.append(f"{other.name} beside it is the test part")
    return made


def _one_ts(path: Path) -> Bare:
    read = read_ts(path)
    names = [f"{path.stem} {row}" for row in range(len(read.values))]
    found = _of_values(read.values, None, names)
    found.labels = None if read.labels is None else objects(read.labels)
    found.notes = read.notes
    problem = None if read.labels is None else "regression" if read.numbers else "classification"
    return Bare(found, Series(read.values[:1]).channels, problem=problem)


def _joined(parts: dict[str, Bare], path: Path) -> Bare:
    first = next(iter(parts.values()))
    if len(parts) == 1:
        return first
    for part, bare in parts.items():
        if len(bare.channels) != len(first.channels):
            raise DataError(
                f"{path}: the {part} series have {len(bare.channels)} channels and others have "
                f"{len(first.channels)}"
            )
        if (bare.found.labels is None) != (first.found.labels is None):
            raise DataError(f"{path}: of its parts, some have labels and some have none")
    blank = first.found.labels is None
    for bare in parts.values():
        if blank:
            bare.found.labels = objects([None] * len(bare.found))
    found = joined_sources({part: bare.found for part, bare in parts.items()})
    found.labels = None if blank else found.labels
    return replace(first, found=found)


def _named(name: str, kind: str) -> Bare:
    from stackwise import data

    known = {entry.name for entry in data.names("series")}
    if name in known:
        return _folder(data.series(name))
    if os.sep in name or kind:
        raise DataError(f"{name} does not exist")
    raise DataError(f"there is no folder, file or set of series {name!r}.{nearest(name, known)}")


def _table(source: Any, reading: Reading, what: str, labelled: bool) -> Bare:
    frame = read_table(source)
    target = reading.target
    one = reading.horizon is not None
    if target is None and not one and labelled:
        target = next((name for name in LABELS if name in frame.columns), None)
    if target is not None and target not in frame.columns and labelled:
        columns = map(str, frame.columns)
        raise DataError(f"{what} has no column {target!r}.{nearest(target, columns)}")
    beside = [] if reading.group is None else [reading.group]
    read: TableSeries = series_of(
        frame, target=target, series=reading.series, time=reading.time, one=one, beside=beside,
        channels=reading.channels, layout=reading.layout,
    )  # fmt: skip
    labels = None
    if target is not None and not one and target in read.rows.columns:
        column = read.rows[target].astype(object)
        labels = objects(column.where(column.notna(), None).tolist())
    found = Found(
        read.values, read.names, labels, None,
        pd.DataFrame(read.rows.drop(columns=[target], errors="ignore")), read.notes,
    )  # fmt: skip
    return Bare(found, read.channels, read.times, read.layout, named=read.named, places=read.places)
