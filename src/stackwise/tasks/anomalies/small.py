"""A small series with anomalies, for tests and to try things on."""

import numpy as np
import pandas as pd


def small_series(moments: int = 420, channels: int = 4, seed: int = 0) -> pd.DataFrame:
    """Channels of one slow wave with noise, four anomalies in the second half: `timestamp`, x0, x1,
    ..., `fault`.
    """
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(moments) / 7)
    values = np.stack([wave * (1 + 0.3 * place) for place in range(channels)], axis=1)
    values += rng.normal(0, 0.1, values.shape)
    fault = np.zeros(moments, dtype=int)
    for place, start in enumerate(np.linspace(0.55, 0.92, 4) * moments):
        span = slice(int(start), int(start) + 8)
        values[span, place % channels] += 2.5
        fault[span] = 1
    stamps = pd.date_range("2024-01-01", periods=moments, freq="1s")
    frame = pd.DataFrame(values, columns=[f"x{place}" for place in range(channels)])
    frame.insert(0, "timestamp", stamps.astype(str))
    return frame.assign(fault=fault)
