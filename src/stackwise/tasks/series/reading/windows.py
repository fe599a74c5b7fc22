"""A forecast as samples: the moments up to now, and the value some moments ahead.

    x = series[:, t - window + 1 : t + 1]        y = series[target, t + horizon]

for every moment t at which both are there. Windows are views: a long series is held once.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stackwise.errors import DataError
from stackwise.tasks.labelled.found import Found, objects
from stackwise.tasks.labelled.split import split_parts

MOMENT = "moment"
"""The column that says how far in its own series a window's answer lies, from 0 to 1."""


@dataclass
class Windows:
    """Windows over series.

    Attributes:
        values: n views (C, window). answers: (n,) float64, NaN where it was not measured.
        series, ends: (n,) the series of each window, and the place of its last moment there.
    """

    values: list[np.ndarray]
    answers: np.ndarray
    series: np.ndarray
    ends: np.ndarray


def windows_of(
    series: list[np.ndarray], channel: int, window: int, horizon: int, *, answered: bool
) -> Windows:
    """All windows of series, in their order.

    Args:
        channel: that is forecast. answered: only those whose answer lies in the series.
    """
    values: list[np.ndarray] = []
    answers, number, ends = [], [], []
    for place, one in enumerate(series):
        last = one.shape[1] - (horizon if answered else 0)
        for end in range(window - 1, last):
            values.append(one[:, end - window + 1 : end + 1])
            ahead = end + horizon
            answers.append(one[channel, ahead] if ahead < one.shape[1] else np.nan)
            number.append(place)
            ends.append(end)
    return Windows(values, np.array(answers), np.array(number, int), np.array(ends, int))


def as_found(
    series: list[np.ndarray], names: list[str], channel: int, window: int, horizon: int,
    notes: list[str],
) -> Found:  # fmt: skip
    """Windows with their answers as labelled samples.

    Raises:
        DataError: no series is long enough.
    """
    made = windows_of(series, channel, window, horizon, answered=True)
    if not made.values:
        longest = max(one.shape[1] for one in series)
        raise DataError(
            f"a window of {window} and a horizon of {horizon} take {window + horizon} moments, and "
            f"the longest series has {longest}; give a smaller --window or --horizon"
        )
    far = np.array([one.shape[1] for one in series])[made.series]
    called = [f"{names[of]} at {end}" for of, end in zip(made.series, made.ends, strict=True)]
    labels = objects(None if np.isnan(answer) else float(answer) for answer in made.answers)
    columns = pd.DataFrame({MOMENT: (made.ends + horizon) / far})
    return Found(made.values, called, labels, None, columns, notes)


def parted_by_time(found: Found, shares: dict[str, float]) -> Found:
    """The same, parted so that what is to be forecast for the test lies behind what was learned.

    The window before an answer may reach back into an earlier part: that is past by then.
    """
    parts = split_parts(
        found.columns, np.zeros(len(found)), how="time", column=MOMENT, test=shares["test"],
        validation=shares["validation"],
    )  # fmt: skip
    words = np.full(len(found), "train", dtype=object)
    words[parts.validation], words[parts.test] = "validation", "test"
    found.parts = words
    return found
