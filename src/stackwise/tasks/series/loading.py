"""Bring series in as a task: find them, part them, decide what is predicted."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError
from stackwise.tasks.labelled.found import Found, count, objects
from stackwise.tasks.labelled.options import check_max_rows, kept_options
from stackwise.tasks.labelled.parting import Loaded, Parting, parted, with_own_parts
from stackwise.tasks.series.marks import SERIES
from stackwise.tasks.series.reading.find import Bare, Reading, find_series
from stackwise.tasks.series.reading.windows import parted_by_time
from stackwise.tasks.series.series import Series, check_channels
from stackwise.tasks.table.reading.target_column import read_target

_DEFAULTS = {
    "validation": 0.2, "test": 0.2, "split_seed": 0, "problem": "auto", "window": 64,
}  # fmt: skip


@dataclass(frozen=True)
class Choices(Parting):
    """What a user says beside the source; see `SeriesTask.load`."""

    series: str | None
    time: str | None
    horizon: int | None
    window: int
    problem: str

    def as_options(self, metric: str | None) -> dict[str, Any]:
        """The options that differ from their defaults, as JSON, for repeating the load."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return kept_options(given | {"metric": metric}, _DEFAULTS)

    def reading(self) -> Reading:
        """How the source is read."""
        return Reading(
            target=self.target, series=self.series, time=self.time, horizon=self.horizon,
            window=self.window, group=self.group,
        )  # fmt: skip


def load_parts(source: Any, choices: Choices) -> Loaded:
    """Read series and part them; those without a value or a label are left out.

    Raises:
        DataError: one sentence about what cannot be used, and what would be right.
    """
    check_max_rows(choices.max_rows)
    reading = choices.reading()
    if choices.horizon is not None and choices.group is not None:
        raise DataError("a forecast parts its series by time; leave out --group")
    first, bare = find_series(source, reading)
    settled = replace(
        reading, channels=tuple(bare.channels), layout=bare.layout,
        series=reading.series or bare.named,
    )  # fmt: skip

    def find(other: Any, *, target: str | None) -> Found:
        found, its = find_series(other, settled)
        if len(its.channels) != len(bare.channels):
            raise DataError(
                f"{other if isinstance(other, str) else 'a part'} has {len(its.channels)} channels "
                f"and the training series have {len(bare.channels)}"
            )
        return found

    found, shares = with_own_parts(first, choices, find)
    numbers, notes = _read_labels(found, choices, bare)
    if choices.horizon is not None and found.parts is None:
        found = parted_by_time(found, shares)
    good = np.array([row for row, one in enumerate(found.samples) if _measured(one)], dtype=int)
    if not len(good):
        raise DataError("every value of these series is missing")
    blank = len(found) - len(good)
    said = [*notes, *([f"{count(blank, SERIES)} without a value, left out"] if blank else [])]
    kept = [found.samples[row] for row in good]
    if choices.horizon is None:
        check_channels(kept, bare.channels, [found.names[row] for row in good])
    series = Series(kept, good, bare.channels, settled.as_json())
    return parted(
        found, series, good, choices, shares, what=SERIES, alike="value for value", said=said,
        numbers=numbers,
    )  # fmt: skip


def _measured(series: np.ndarray) -> bool:
    return not bool(np.isnan(series).all())


def _read_labels(found: Found, choices: Choices, bare: Bare) -> tuple[bool, list[str]]:
    """Bring the labels to one type; returns whether they are numbers to predict, and notes."""
    assert found.labels is not None
    if choices.horizon is not None:
        if choices.problem not in ("auto", "regression"):
            raise DataError(
                f"a forecast is a number; problem={choices.problem} is none of --horizon"
            )
        return True, []
    problem = choices.problem if choices.problem != "auto" else bare.problem or "auto"
    name = choices.target or "label"
    read = read_target(pd.Series(found.labels, name=name), problem)
    told = np.full(len(found), None, dtype=object)
    told[read.known] = objects(read.y.tolist())
    found.labels = told
    lost = f"{int((~read.known).sum()):,} rows have no target"  # said by who leaves them out
    notes = [note for note in read.notes if not note.startswith(lost)]
    return read.problem == "regression", notes
