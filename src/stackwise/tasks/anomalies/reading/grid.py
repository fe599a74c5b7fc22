"""Moments brought onto a grid of equal steps.

Each row counts for the first grid moment that is not before it; of several the last one stands. Up
to `max_gap` grid moments without a row repeat the row before them; a longer gap stays one.
"""

from typing import Any

import numpy as np
import pandas as pd

Rows = tuple[np.ndarray, pd.DataFrame, np.ndarray | None, np.ndarray, int]
"""Moments, values, labels, where stretches begin, and how many values were filled."""


class Grid:
    """Takes rows as they come; the last grid moment waits until a row lies behind it."""

    def __init__(self, step: float, max_gap: int) -> None:
        self.step, self.max_gap = step, max_gap
        self._waiting: tuple[int, pd.DataFrame, bool] | None = None
        self._given: tuple[int, pd.DataFrame] | None = None
        self._kind: Any = None
        self._labelled = False

    def put(self, moments: np.ndarray, values: pd.DataFrame, labels: np.ndarray | None) -> Rows:
        """The grid moments that these rows settle."""
        self._kind, self._labelled = moments.dtype, labels is not None
        places = np.ceil(moments / self.step).astype(np.int64)
        marks = np.zeros(len(places), bool) if labels is None else labels
        if self._waiting is not None:
            place, row, mark = self._waiting
            places, marks = np.append(place, places), np.append(mark, marks)
            values = pd.concat([row, values], ignore_index=True)
        last = np.append(np.flatnonzero(np.diff(places)), len(places) - 1)
        first = np.append(0, last[:-1] + 1)
        marks = np.maximum.reduceat(marks, first)  # an anomaly where one of its rows is
        places, rows = places[last], values.iloc[last].reset_index(drop=True)
        self._waiting = (int(places[-1]), rows.iloc[[-1]], bool(marks[-1]))
        return self._grown(places[:-1], rows.iloc[:-1], marks[:-1])

    def rest(self) -> Rows | None:
        """The grid moment that still waits."""
        if self._waiting is None:
            return None
        place, row, mark = self._waiting
        self._waiting = None
        return self._grown(np.array([place]), row, np.array([mark]))

    def _grown(self, places: np.ndarray, rows: pd.DataFrame, marks: np.ndarray) -> Rows:
        """These grid moments, and before each the absent ones of a short gap."""
        if not len(places):
            nothing = np.zeros(0, bool)
            return self._moments(places), rows, nothing if self._labelled else None, nothing, 0
        first = self._given is None
        if self._given is not None:
            places, marks = np.append(self._given[0], places), np.append(False, marks)
            rows = pd.concat([self._given[1], rows], ignore_index=True)
        self._given = (int(places[-1]), rows.iloc[[-1]])
        steps = np.diff(places)
        joined = steps <= self.max_gap + 1
        counts = np.append(int(first), np.where(joined, steps, 1))
        ends = np.cumsum(counts)
        own = np.repeat(np.arange(len(places)), counts)
        back = ends[own] - 1 - np.arange(len(own))  # 0 at a row itself
        there = back == 0
        begins = np.append(first, ~joined)[own] & there
        made = rows.iloc[np.where(there, own, own - 1)].reset_index(drop=True)
        labels = marks[own] & there if self._labelled else None
        filled = int((~there).sum()) * rows.shape[1]
        return self._moments(places[own] - back), made, labels, begins, filled

    def _moments(self, places: np.ndarray) -> np.ndarray:
        return np.asarray(places * self.step).astype(self._kind)
