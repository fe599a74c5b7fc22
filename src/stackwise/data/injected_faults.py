"""A real series with faults put into its second half, by a fixed seed.

Daphnet is worn accelerometers: three sensors of three axes each, 64 moments a second. The file that
the package carries labels nothing, so that the second half gets nine faults of three kinds:

    shift   one channel is moved by three of its standard deviations
    stale   one channel shows its own past of two seconds ago
    noise   every channel gets noise of its own standard deviation
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

KINDS = ("shift", "stale", "noise")
EACH, LENGTH, PAST = 3, 64, 128
"""Faults of a kind, moments of a fault, and how far back a stale channel looks."""


def with_faults(values: "np.ndarray", start: int, seed: int) -> "tuple[np.ndarray, np.ndarray]":
    """Put faults behind moment `start` of a series.

    Args:
        values: (T, n) float64, left as they are.

    Returns:
        (T, n) the series with faults, and (T,) the kind of each moment's fault: 0 none, else the
        place of it in `KINDS` and 1.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    made, kinds = values.astype(np.float64), np.zeros(len(values), dtype=np.int64)
    spread = values[:start].std(axis=0)
    order = rng.permutation(np.repeat(np.arange(len(KINDS)), EACH))
    room = (len(values) - start) // len(order)
    for place, kind in enumerate(order):
        first = start + place * room + int(rng.integers(room // 4, room - LENGTH - room // 8))
        span = slice(first, first + LENGTH)
        channel = int(rng.integers(values.shape[1]))
        if KINDS[kind] == "shift":
            made[span, channel] += 3 * spread[channel] * rng.choice([-1, 1])
        elif KINDS[kind] == "stale":
            made[span, channel] = values[first - PAST : first - PAST + LENGTH, channel]
        else:
            made[span] += rng.normal(0, 1, (LENGTH, values.shape[1])) * spread
        kinds[span] = kind + 1
    return made, kinds


def daphnet(file: Path, seed: int = 0) -> "pd.DataFrame":
    """The series of a file, `timestamp`, nine channels and `fault`; its first half is as it was."""
    import pandas as pd

    frame = pd.read_csv(file).drop(columns="is_anomaly")
    channels = [name for name in frame if name != "timestamp"]
    half = len(frame) // 2
    values, kinds = with_faults(frame[channels].to_numpy(float), half, seed)
    made = pd.DataFrame(values, columns=channels)
    made.insert(0, "timestamp", frame["timestamp"])
    made["fault"] = (kinds > 0).astype(int)
    made.attrs |= {
        "time": "timestamp", "label": "fault", "normal_until": str(frame["timestamp"][half])
    }  # fmt: skip
    return made
