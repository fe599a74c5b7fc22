"""The anomalies task: learn what is normal in a series, and find what is not.

    task = AnomaliesTask.load("plant.csv", time="timestamp", label="fault")
    task.fit(detector)                                   the span said to be normal
    task.judge(detector, "test").scores["average_precision"]

Labels are for scoring alone. A series without them is learned from and scored all the same, and
has no score; `unscored` says so in a sentence.
"""

import hashlib
import json
import os
import time as clock
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pandas as pd

from stackwise.catalog import Knob, task
from stackwise.errors import DataError
from stackwise.findings import Findings
from stackwise.learning.metrics import Metric
from stackwise.protocols import Judged, Part, RunLike
from stackwise.tasks.anomalies import showing
from stackwise.tasks.anomalies.detectors.normal import Normal
from stackwise.tasks.anomalies.detectors.scoring import span_errors
from stackwise.tasks.anomalies.marks import recognises
from stackwise.tasks.anomalies.metrics import average_precision, scores_of
from stackwise.tasks.anomalies.parting import normal_span, validation_stop
from stackwise.tasks.anomalies.reading.choices import Reading
from stackwise.tasks.anomalies.reading.moments import written
from stackwise.tasks.anomalies.series import Series, read_series
from stackwise.tasks.anomalies.small import small_series
from stackwise.tasks.anomalies.writing import write_predictions
from stackwise.tasks.described import described
from stackwise.tasks.table.loading import title_of

BLOCKS = 60
"""Runs of test moments that are drawn again together: neighbours are no independent samples."""
LEARNED_IN = 20
"""Blocks, spread over the normal span, into which `max_rows` moments are gathered."""


@task(
    title="A series of several channels in which anomalies are found",
    recognises=recognises,
    sample="plant.csv --time timestamp --label fault",
)
class AnomaliesTask:
    """A series of several channels, parted into a normal span, validation and test.

    Attributes:
        series: all of it.
        spans: part -> (start, stop) of its moments.
    """

    name: ClassVar[str] = "anomalies"
    target: ClassVar[str] = "anomalies"
    ending: ClassVar[str] = "csv"
    problem: ClassVar[str] = "anomaly detection"
    metric: ClassVar[Metric] = Metric("average_precision", "max")
    write_predictions = staticmethod(write_predictions)

    series: Series
    spans: dict[str, tuple[int, int]]
    notes: list[str]
    data_hash: str
    options: dict[str, Any]

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        time: Annotated[
            str | None, Knob("the column of the moments; else rows are numbered")
        ] = None,
        label: Annotated[
            str | None, Knob("the column that is 1 at an anomaly; for scoring alone")
        ] = None,
        channel: Annotated[
            str | None, Knob("of a long table, a row a moment and channel: the channels' column")
        ] = None,
        value: Annotated[str | None, Knob("of a long table: the values' column")] = None,
        ignore: Annotated[list[str] | None, Knob("columns that are no channels")] = None,
        normal_until: Annotated[
            str | None, Knob("moments before this one are normal and learned from")
        ] = None,
        normal: Annotated[
            float, Knob("else this share, at most up to the first labelled anomaly", gt=0, lt=1)
        ] = 0.5,
        validation: Annotated[
            float, Knob("share of what follows by which methods are chosen", gt=0, lt=1)
        ] = 0.4,
        step: Annotated[
            str | None, Knob("bring moments onto steps of 1s, 5min, ...; else as they are")
        ] = None,
        max_gap: Annotated[int, Knob("steps without a row that end no stretch", ge=0)] = 10,
        fill: Annotated[
            int, Knob("moments for which the last value stands for a missing one", ge=0)
        ] = 0,
        max_rows: Annotated[int | None, Knob("train on at most this many rows", ge=2)] = 1_000_000,
    ) -> Self:
        """Read a series and part its moments.

        Args:
            source: a csv, parquet or arrow file, the name of a series (`stackwise data`), a frame
                or an array (T, n). Large files are read in pieces, and mapped from the disk.

        Raises:
            DataError: one sentence about what cannot be used, and what would be right.
        """
        reading = Reading(time, label, channel, value, list(ignore or []), step, max_gap, fill)
        made = cls()
        made.series = series = read_series(source, reading)
        made.title = title_of(source)
        made.source = str(Path(source).resolve()) if _is_file(source) else None
        if isinstance(source, str) and made.source is None:
            made.source = source
        stop, why = normal_span(series, normal_until, normal)
        middle = validation_stop(series, stop, validation)
        made.spans = {
            "train": (0, stop), "validation": (stop, middle), "test": (middle, len(series))
        }  # fmt: skip
        made.max_rows = max_rows
        made.notes = [why, *made._remarks()]
        given = {
            **reading.as_json(), "normal_until": normal_until, "normal": normal,
            "validation": validation, "max_rows": max_rows,
        }  # fmt: skip
        made.options = {key: one for key, one in given.items() if one is not None}
        text = json.dumps([series.digest(), made.spans, max_rows])
        made.data_hash = hashlib.sha256(text.encode()).hexdigest()[:16]
        return made

    title: str
    source: str | None
    max_rows: int | None

    def _remarks(self) -> list[str]:
        """What a reader should know of the series."""
        series, found = self.series, []
        if series.filled:
            found.append(f"{series.filled:,} values repeat the last one of their channel")
        if series.missing.any():
            found.append(f"{int(series.missing.sum()):,} moments lack a value and have no score")
        stretches = sum(1 for _ in series.stretches())
        if stretches > 1:
            found.append(f"gaps part the series into {stretches:,} stretches")
        if self.unscored:
            found.append(self.unscored)
        return found

    @property
    def unscored(self) -> str | None:
        """Why methods cannot be told apart here, a sentence; None where they can."""
        labels = self.series.labels
        if labels is None or not labels.any():
            return (
                "no anomaly is labelled, so nothing can be scored: name the column of the labels "
                "with --label"
            )
        for part in ("validation", "test"):
            start, stop = self.spans[part]
            if not labels[start:stop].any():
                return (
                    f"no labelled anomaly lies in the {part} part, so methods cannot be told "
                    "apart: at least two events have to follow the normal span"
                )
        return None

    @property
    def size_bytes(self) -> int:
        """Bytes of the values in memory."""
        mapped = isinstance(self.series.values, np.memmap)
        return 0 if mapped else int(self.series.values.nbytes)

    def fit(self, learner: Any) -> Any:
        """Fit a detector on the span said to be normal."""
        return learner.fit(self)

    def normal(self) -> Normal:
        """The normal span as stretches, of more than `max_rows` moments a spread of blocks."""
        start, stop = self.spans["train"]
        found = list(self.series.stretches(start, stop))
        count = sum(b - a for a, b in found)
        if self.max_rows is not None and count > self.max_rows:
            share = self.max_rows / count
            found = [one for a, b in found for one in _blocks(a, b, share)]
        stretches = [self.series.block(a, b) for a, b in found]
        return Normal(stretches, self.series.channels, self.series.reading, self.source)

    def judge(self, learner: Any, part: Part) -> Judged:
        """Score a fitted detector on a part; without a labelled anomaly there is no score."""
        if part not in self.spans:
            raise DataError(f"there is no part {part!r}; there is train, validation and test")
        start, stop = self.spans[part]
        began = clock.perf_counter()
        errors = span_errors(learner, self.series, start, stop)
        scores = learner.total(errors)
        seconds = clock.perf_counter() - began
        with np.errstate(invalid="ignore"):
            flags = scores > learner.threshold_
        samples = pd.DataFrame({"row": np.arange(start, stop), "score": scores, "alarm": flags})
        if self.series.labels is None or not self.series.labels.any():
            return Judged({}, samples, seconds)
        labels = self.series.labels[start:stop]
        samples["label"] = labels
        return Judged(scores_of(labels, scores, flags), samples, seconds)

    def resampled(self, run: RunLike) -> tuple[int, Callable[[np.ndarray], float]]:
        """Blocks of the test moments of a finished run, and the average precision on any of them;
        not a number on those without an anomaly.
        """
        table = run.predictions
        if "label" not in table:
            return 0, lambda blocks: float("nan")
        labels, scores = table["label"].to_numpy(bool), table["score"].to_numpy()
        edges = np.linspace(0, len(table), min(BLOCKS, len(table)) + 1).astype(int)

        def scored(blocks: np.ndarray) -> float:
            rows = np.concatenate([np.arange(edges[one], edges[one + 1]) for one in blocks])
            return average_precision(labels[rows], scores[rows])

        return len(edges) - 1, scored

    @classmethod
    def shows(cls, runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
        """The scores over the test moments, labelled events shaded."""
        return showing.shows(runs, data)

    @classmethod
    def small(cls) -> Self:
        """420 moments of four channels; see `small_series`."""
        return cls.load(small_series(), time="timestamp", label="fault")

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        series = self.series
        shown = written(series.moments[[0, -1]], series.zone)
        rows = {part: stop - start for part, (start, stop) in self.spans.items()}
        return described(self, rows) | {
            "features": len(series.channels), "channels": series.channels,
            "from": shown[0], "to": shown[1],
        }  # fmt: skip


def _is_file(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike)) and Path(source).is_file()


def _blocks(start: int, stop: int, share: float) -> list[tuple[int, int]]:
    """Blocks of a stretch, spread evenly, that hold a share of it."""
    edges = np.linspace(start, stop, LEARNED_IN + 1).astype(int)
    return [
        (int(a), int(a) + max(int(share * (b - a)), 1))
        for a, b in pairwise(edges)
    ]  # fmt: skip
