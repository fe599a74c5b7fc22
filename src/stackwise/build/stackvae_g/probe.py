"""The probe: the graph of the channels, and why the strangest moment of a series is strange."""

import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from stackwise.build.stackvae_g.diagnosis import SYSTEMATIC
from stackwise.build.stackvae_g.figures import (
    drawn_graph,
    errors_over_time,
    matrix,
    scores_over_time,
)
from stackwise.build.stackvae_g.learner import StackVAEGDetector
from stackwise.catalog import Knob, probe
from stackwise.errors import DataError, ModelError
from stackwise.findings import Findings
from stackwise.tasks.anomalies.detectors.scoring import span_errors
from stackwise.tasks.anomalies.metrics import runs_of
from stackwise.tasks.anomalies.reading.moments import written
from stackwise.tasks.anomalies.series import Series, read_series

MOST = 20
"""Events of which the strangest are listed."""


@probe(
    "stackvae-g",
    title="A stack of shared autoencoders with a graph of the channels",
    paper="2105.08397",
    tasks=("anomalies",),
    takes=("learner",),
    reads="source",
)
def channel_graph(
    model: Any,
    data: Any = None,
    *,
    moment: Annotated[
        int | None, Knob("the moment to explain, counted from 0; none: the strangest", ge=0)
    ] = None,
) -> Findings:
    """Draw the graph of the channels, the errors over a series, and why a moment is strange.

    Args:
        model: a fitted `StackVAEGDetector`.
        data: a series as `fit` takes it, or a loaded task; None reads what the detector learned
            from.

    Returns:
        tables of the graph, the channels at the moment and the events; figures of the scores, the
        errors, and the graph as a matrix and as a drawing; a summary that says why.

    Raises:
        ModelError: the model is another one. DataError: there is no source, or no such moment.
    """
    if not isinstance(model, StackVAEGDetector):
        raise ModelError(
            f"a {type(model).__name__} has no graph of channels: give a run of stackvae-g"
        )
    series = _series(model, data)
    errors = span_errors(model, series, 0, len(series))
    scores = model.total(errors)
    if not np.isfinite(scores).any():
        raise DataError(f"no {model.window} moments follow each other without a gap")
    place = int(np.nanargmax(scores)) if moment is None else moment
    if not place < len(series):
        raise DataError(f"there is no moment {place} among {len(series)}")
    why = model.explain_errors(errors[place])
    with np.errstate(invalid="ignore"):
        alarms = scores > model.threshold_
    times = written(series.moments[[place]], series.zone)
    weights = model.neighbours_ * (model.adjacency_ > 0)
    strange = (errors[place] > model.channel_thresholds_).astype(bool)
    names = model.channels_
    tables = {
        "graph": pd.DataFrame(weights, index=pd.Index(names, name="channel"), columns=names),
        "channels": why.channels.astype({"strange": int}),
        "neighbours": why.neighbours.astype({"strange": int}),
        "events": _events(series, scores, alarms, model.verdicts(errors)),
    }
    figures = {
        "scores": scores_over_time(scores, model.threshold_, series.labels, alarms),
        "errors": errors_over_time(errors, model.channel_thresholds_, names),
        "matrix": matrix(weights, names),
        "graph": drawn_graph(weights, names, strange),
    }
    network: Any = model.network_
    summary = {
        "moments": len(series), "alarms": int(alarms.sum()),
        "events": len(runs_of(alarms)), "threshold": float(model.threshold_),
        "explained": str(times[0]), "why": str(why), "verdict": why.verdict,
        "pairs saturated": f"{network.graph.saturated():.0%}",
    }  # fmt: skip
    return Findings({name: table for name, table in tables.items() if len(table)}, figures, summary)


def _series(model: StackVAEGDetector, data: Any) -> Series:
    """The series to look at."""
    if isinstance(getattr(data, "series", None), Series):
        found: Series = data.series
        return found
    if data is None:
        if model.source_ is None:
            raise DataError("the detector learned from no file: give --data")
        if os.sep in model.source_ and not Path(model.source_).exists():
            raise DataError(f"{model.source_} is not there any more: give --data")
        data = model.source_
    return read_series(data, model.reading_, model.channels_)


def _events(
    series: Series, scores: np.ndarray, alarms: np.ndarray, verdicts: np.ndarray
) -> pd.DataFrame:
    """The strangest runs of alarms: moments, peak, whether they are systematic."""
    found = runs_of(alarms)
    peaks = [start + int(scores[start:stop].argmax()) for start, stop in found]
    rows = pd.DataFrame({
        "from": [int(start) for start, _ in found],
        "moments": [int(stop - start) for start, stop in found],
        "peak": [float(scores[place]) for place in peaks],
        "systematic": [int(verdicts[place] == SYSTEMATIC) for place in peaks],
    })  # fmt: skip
    starts = np.array([start for start, _ in found], dtype=int)
    rows.index = pd.Index([str(one) for one in written(series.moments[starts], series.zone)],
                          name="start")  # fmt: skip
    return rows.sort_values("peak", ascending=False).head(MOST)
