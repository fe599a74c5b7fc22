"""What a page shows of finished runs on a series: the score over time, labelled events shaded."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stackwise.figures import COLOURS, INK, WINNER, drawing, new_figure
from stackwise.findings import Findings
from stackwise.protocols import RunLike
from stackwise.tasks.anomalies.metrics import runs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 2_000
"""Points of a drawn line; of more moments the largest of each group is drawn."""


def shows(runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
    """The score of each test moment by the run to keep, and how the events are found.

    Returns:
        A figure, and a table of the labelled events: the share of its moments that is flagged, and
        its largest score.
    """
    if not runs:
        return Findings()
    table = runs[0].predictions_on("test")
    if not len(table):
        return Findings()
    labels = table["label"].to_numpy(bool) if "label" in table else np.zeros(len(table), bool)
    alarms, scores = table["alarm"].to_numpy(bool), table["score"].to_numpy()
    found = Findings({}, {"Scores over the test moments": drawn(table["row"], scores, labels)})
    events = runs_of(labels)
    if len(events):
        rows = table["row"].to_numpy()
        names = [f"from {rows[start]}" for start, _ in events]
        found.tables["events"] = pd.DataFrame({
            "moments": [stop - start for start, stop in events],
            "flagged": [float(alarms[start:stop].mean()) for start, stop in events],
            "peak": [float(np.nanmax(scores[start:stop])) if np.isfinite(scores[start:stop]).any()
                     else np.nan for start, stop in events],
        }, index=pd.Index(names, name="event"))  # fmt: skip
    return found


def drawn(rows: Any, scores: np.ndarray, labels: np.ndarray) -> "Figure":
    """The score of each moment, the events shaded."""
    with drawing():
        figure, axes = new_figure(height=220)
        places, peaks = thinned(np.asarray(rows), scores)
        axes.plot(places, peaks, color=WINNER, lw=0.9)
        shade(axes, np.asarray(rows), labels)
        axes.set_xlabel("moment")
        axes.set_ylabel("score")
        if np.nanmin(peaks, initial=np.inf) > 0:
            axes.set_yscale("log")
        axes.xaxis.label.set_color(INK)
    return figure


def shade(axes: "Axes", places: np.ndarray, labels: np.ndarray) -> None:
    """Shade the labelled events."""
    for start, stop in runs_of(labels):
        axes.axvspan(places[start], places[stop - 1], color=COLOURS[1], alpha=0.25, lw=0)


def thinned(places: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `MOST` points: of each group of moments the largest score, at its place."""
    size = -(-len(scores) // MOST)
    if size <= 1:
        return places, scores
    whole = len(scores) // size * size
    groups = np.where(np.isfinite(scores[:whole]), scores[:whole], -np.inf).reshape(-1, size)
    best = groups.argmax(axis=1) + np.arange(len(groups)) * size
    return places[best], scores[best]
