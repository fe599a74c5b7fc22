"""A long table, a row a moment and channel, as a wide one."""

import numpy as np
import pandas as pd

from stackwise.errors import DataError
from stackwise.tasks.anomalies.reading.choices import Reading
from stackwise.tasks.anomalies.reading.moments import moments_of


def wide_of(frame: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    """A row a moment, a column a channel; a moment is an anomaly where one of its rows is.

    Raises:
        DataError: a column is missing, time goes back within a channel, or a channel has two values
            at one moment.
    """
    time, channel, value = reading.time, reading.channel, reading.value
    assert time is not None and channel is not None and value is not None
    for name in (time, channel, value, reading.label):
        if name is not None and name not in frame:
            raise DataError(f"there is no column {name!r}; there is {', '.join(map(str, frame))}")
    moments, _ = moments_of(frame[time], 1)
    names = frame[channel].astype(str)
    own = pd.DataFrame({"moment": moments, "channel": names.to_numpy()})
    back = own.groupby("channel", sort=False)["moment"].diff().to_numpy()
    if (back <= 0).any():
        place = int(np.flatnonzero(back <= 0)[0])
        said = f"the channel {names.iloc[place]!r}"
        if back[place] == 0:
            raise DataError(f"{said} has two values at {frame[time].iloc[place]}; keep one")
        raise DataError(
            f"time goes backwards at row {place + 1}, within {said}: sort its rows by their time"
        )
    own["value"] = frame[value].to_numpy()
    order = list(dict.fromkeys(own["channel"]))
    made = own.pivot(index="moment", columns="channel", values="value")[order].reset_index(
        drop=True
    )
    made.columns.name = None
    first = ~own["moment"].duplicated()
    shown = frame[time].reset_index(drop=True)[first].to_numpy()
    sorting = np.argsort(moments[first.to_numpy()], kind="stable")
    made.insert(0, time, pd.Series(shown).iloc[sorting].reset_index(drop=True))
    if reading.label is not None:
        labels = pd.Series(frame[reading.label].to_numpy()).groupby(moments).max()
        made[reading.label] = labels.to_numpy()
    return made
