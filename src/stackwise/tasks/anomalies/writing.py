"""Score the moments of a source piece by piece into a file, and the events beside it.

    scores.csv          a row a moment: its time, score and threshold, whether it is an alarm, the
                        channel that adds most, what the detector says of it, and its status
    scores-events.csv   a row a run of alarms: start, end, peak, channels

A status is `scored`; `start`, where the first window of a stretch is not full yet; or `gap`, where
a value is missing. Memory does not grow with the file.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stackwise.tasks.anomalies.detectors.scoring import Diagnoses, Scorer
from stackwise.tasks.anomalies.reading.moments import written
from stackwise.tasks.anomalies.reading.pieces import Piece, pieces
from stackwise.tasks.labelled.writing import predictions_file

NAMED = 3
"""Channels of an event that are named."""


def write_predictions(path: Path | str, learner: Any, source: Any) -> int:
    """Score every moment of `source` with a fitted detector; returns the moments written.

    Args:
        path: ends in .csv, .tsv, .parquet or .jsonl; the events get the same name with -events.
        source: what the detector learned from, in the same layout; files are streamed.

    Raises:
        DataError: the source is broken, or lacks a channel.
    """
    path = Path(path)
    reader = pieces(source, learner.reading_).expecting(learner.channels_)
    scorer, events, count = Scorer(learner), Events(learner), 0
    with predictions_file(path, source, raw=False) as writer:
        for piece in reader:
            errors = scorer.errors(piece)
            times = written(piece.moments, reader.zone, reader.joint)
            frame = answers(learner, piece, errors, times, learner.reading_.time or "moment")
            writer.write(frame)
            events.put(frame, errors, times)
            count += len(frame)
    beside = path.with_name(f"{path.stem}-events{path.suffix}")
    with predictions_file(beside, source, raw=False) as writer:
        writer.write(events.table())
    return count


def answers(
    detector: Any, piece: Piece, errors: np.ndarray, times: list[Any], name: str
) -> pd.DataFrame:
    """A row a moment of a piece."""
    scores = detector.total(errors)
    scored = np.isfinite(scores)
    with np.errstate(invalid="ignore"):
        alarms = scores > detector.threshold_
    made = pd.DataFrame({
        name: times, "score": scores, "threshold": detector.threshold_,
        "alarm": alarms.astype(np.int64),
    })  # fmt: skip
    if detector.tells_channels:
        names = np.asarray([*detector.channels_, ""], dtype=object)
        top = np.where(scored, np.nan_to_num(errors, nan=-np.inf).argmax(axis=1), len(names) - 1)
        made["channel"] = names[top]
    if isinstance(detector, Diagnoses):
        made["verdict"] = np.where(alarms, detector.verdicts(errors), "")
    made["status"] = np.where(scored, "scored", np.where(piece.missing, "gap", "start"))
    return made


@dataclass
class Events:
    """Joins alarms that follow each other, over the pieces, into events."""

    detector: Any
    rows: list[dict[str, Any]] = field(default_factory=list)
    _open: dict[str, Any] | None = None

    def put(self, frame: pd.DataFrame, errors: np.ndarray, times: list[Any]) -> None:
        """The alarms of a piece."""
        alarms = frame["alarm"].to_numpy() == 1
        if self._open is not None and (not len(alarms) or not alarms[0]):
            self._close()
        edges = np.flatnonzero(np.diff(np.concatenate([[False], alarms, [False]]).astype(np.int8)))
        scores = frame["score"].to_numpy()
        for start, stop in edges.reshape(-1, 2):
            if self._open is not None and start > 0:
                self._close()
            event = self._open or {
                "start": times[start], "moments": 0, "score": -np.inf,
                "errors": np.zeros(errors.shape[1]),
            }  # fmt: skip
            peak = start + int(scores[start:stop].argmax())
            if scores[peak] > event["score"]:
                event |= {"score": float(scores[peak]), "peak": times[peak]}
                if "verdict" in frame:
                    event["verdict"] = frame["verdict"].iloc[peak]
            event["end"] = times[stop - 1]
            event["moments"] += int(stop - start)
            event["errors"] = event["errors"] + np.nansum(errors[start:stop], axis=0)
            self._open = event
            if stop < len(alarms):
                self._close()

    def _close(self) -> None:
        if self._open is not None:
            self.rows.append(self._open)
        self._open = None

    def table(self) -> pd.DataFrame:
        """A row an event: start, end, moments, peak, score, channels, verdict."""
        self._close()
        made = []
        for event in self.rows:
            row = {name: event[name] for name in ("start", "end", "moments", "peak", "score")}
            if self.detector.tells_channels:
                order = np.argsort(-event["errors"])[:NAMED]
                row["channels"] = ", ".join(self.detector.channels_[place] for place in order)
            if "verdict" in event:
                row["verdict"] = event["verdict"]
            made.append(row)
        columns = ["start", "end", "moments", "peak", "score"]
        columns += ["channels"] if self.detector.tells_channels else []
        columns += ["verdict"] if isinstance(self.detector, Diagnoses) else []
        return pd.DataFrame(made, columns=columns)
