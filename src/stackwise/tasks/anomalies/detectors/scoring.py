"""Score a series piece by piece: the end of a stretch is kept for the windows of the next piece."""

from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np

from stackwise.tasks.anomalies.detectors.detector import Detector
from stackwise.tasks.anomalies.metrics import runs_of
from stackwise.tasks.anomalies.reading.pieces import Piece
from stackwise.tasks.anomalies.series import Series

PIECE = 1 << 15
"""Moments of a series in memory that are scored at once."""


@runtime_checkable
class Diagnoses(Protocol):
    """A detector that says of an alarm whether one sensor or a group of them is strange."""

    def verdicts(self, errors: np.ndarray) -> np.ndarray:
        """(L, n) errors of channels -> (L,) words."""
        ...


class Scorer:
    """Scores pieces that follow each other as the whole series would be scored."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self._tail: np.ndarray | None = None
        self._first = True

    def errors(self, piece: Piece) -> np.ndarray:
        """(L, n) what each channel adds, or (L, 1); NaN where a window is not full."""
        width = len(self.detector.channels_) if self.detector.tells_channels else 1
        found = np.full((len(piece), width), np.nan)
        before = self.detector.reach - 1
        for start, stop in _runs(piece):
            values = piece.values[start:stop]
            goes_on = start == 0 and not piece.begins[0] and self._tail is not None
            context = self._tail if goes_on and self._tail is not None else values[:0]
            whole = np.concatenate([context, values])
            errors = self.detector.stretch_errors(whole, padded=self._first and start == 0)
            found[start:stop] = errors[len(context) :]
            self._tail = whole[len(whole) - min(before, len(whole)) :]
        if piece.missing[-1]:
            self._tail = None
        self._first = False
        return found


def _runs(piece: Piece) -> list[tuple[int, int]]:
    """The stretches within a piece."""
    cuts = np.flatnonzero(piece.begins)
    found = []
    for start, stop in runs_of(~piece.missing):
        inside = cuts[(cuts > start) & (cuts < stop)]
        edges = [int(start), *map(int, inside), int(stop)]
        found += list(pairwise(edges))
    return found


def span_errors(detector: Any, series: Series, start: int, stop: int) -> np.ndarray:
    """(stop - start, n) the errors of a span of a series, its windows full of what lies before."""
    scorer = Scorer(detector)
    first = max(start - detector.reach + 1, 0)
    found = []
    for at in range(first, stop, PIECE):
        end = min(at + PIECE, stop)
        piece = Piece(
            series.block(at, end), series.moments[at:end], series.begins[at:end],
            series.missing[at:end], None,
        )  # fmt: skip
        found.append(scorer.errors(piece)[max(start - at, 0) :])
    if not found:
        return np.empty((0, 1))
    return np.concatenate(found)
