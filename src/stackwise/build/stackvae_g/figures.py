"""The pictures of the probe: scores over time, errors of the channels, the graph twice."""

from typing import TYPE_CHECKING

import numpy as np

from stackwise.figures import COLOURS, INK, OTHER, WINNER, drawing, new_figure, shortened
from stackwise.tasks.anomalies.showing import shade, thinned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE = 700
"""Pixels of a picture over time."""
COLUMNS = 400
"""Groups of moments of the heat map, each drawn by its largest error."""


def scores_over_time(
    scores: np.ndarray, threshold: float, labels: np.ndarray | None, alarms: np.ndarray
) -> "Figure":
    """The score of each moment, the threshold, alarms as dots, labelled events shaded."""
    with drawing():
        figure, axes = new_figure(height=240, width=WIDE)
        places, peaks = thinned(np.arange(len(scores)), scores)
        axes.plot(places, peaks, color=WINNER, lw=0.9, label="score")
        axes.axhline(threshold, color=COLOURS[3], lw=1, ls="--", label="threshold")
        flagged = places[alarms[places]]
        axes.plot(flagged, scores[flagged], "o", ms=2.5, color=COLOURS[3], label="alarm")
        if labels is not None:
            shade(axes, np.arange(len(scores)), labels)
        axes.set_yscale("log")
        axes.set_xlabel("moment")
        axes.set_ylabel("score")
        axes.legend(loc="upper left", ncols=3, fontsize=9)
    return figure


def errors_over_time(errors: np.ndarray, thresholds: np.ndarray, names: list[str]) -> "Figure":
    """Channel by moment: the error over the channel's own threshold, on a logarithmic scale."""
    from matplotlib.colors import LogNorm

    size = max(-(-len(errors) // COLUMNS), 1)
    whole = len(errors) // size * size
    over = np.nan_to_num(errors[:whole]) / np.maximum(thresholds, 1e-12)
    grouped = over.reshape(-1, size, len(names)).max(axis=1).T
    with drawing():
        figure, axes = new_figure(height=90 + 18 * len(names), width=WIDE)
        axes.grid(False)
        image = axes.imshow(
            np.clip(grouped, 0.01, 100), aspect="auto", cmap="magma", norm=LogNorm(0.01, 100),
            extent=(0, whole, len(names) - 0.5, -0.5), interpolation="nearest",
        )  # fmt: skip
        axes.set_yticks(range(len(names)), [shortened(name, 24) for name in names])
        axes.set_xlabel("moment")
        figure.colorbar(image, ax=axes, label="error over threshold", pad=0.01)
    return figure


def matrix(weights: np.ndarray, names: list[str]) -> "Figure":
    """The graph as a matrix, each row a channel and the weights of its neighbours."""
    with drawing():
        side = 150 + 20 * len(names)
        figure, axes = new_figure(height=side, width=side + 70)
        axes.grid(False)
        image = axes.imshow(weights, cmap="Blues", vmin=0)
        ticks = [shortened(name, 24) for name in names]
        axes.set_xticks(range(len(names)), ticks, rotation=90)
        axes.set_yticks(range(len(names)), ticks)
        figure.colorbar(image, ax=axes, label="weight of a neighbour", shrink=0.8)
    return figure


def drawn_graph(weights: np.ndarray, names: list[str], strange: np.ndarray) -> "Figure":
    """The graph as a drawing: channels on a circle, a line a neighbour, strange channels filled.

    Args:
        weights: (n, n) without a diagonal. strange: (n,) bool.
    """
    count = len(names)
    angles = np.pi / 2 - 2 * np.pi * np.arange(count) / max(count, 1)
    x, y = np.cos(angles), np.sin(angles)
    both = np.maximum(weights, weights.T)
    largest = both.max() or 1.0
    with drawing():
        figure, axes = new_figure(height=440, width=520)
        axes.grid(False)
        axes.set_axis_off()
        axes.set_aspect("equal")
        for i in range(count):
            for j in range(i + 1, count):
                if both[i, j] > 0:
                    share = both[i, j] / largest
                    axes.plot(
                        x[[i, j]], y[[i, j]], color=OTHER, lw=0.3 + 3 * share,
                        alpha=0.15 + 0.7 * share, zorder=1,
                    )  # fmt: skip
        colours = [COLOURS[3] if one else WINNER for one in strange]
        axes.scatter(x, y, s=90, c=colours, zorder=2)
        for place, name in enumerate(names):
            side = "left" if x[place] > 0.05 else "right" if x[place] < -0.05 else "center"
            axes.text(
                1.09 * x[place], 1.09 * y[place], shortened(name, 24), ha=side, va="center",
                fontsize=9, color=INK,
            )  # fmt: skip
        axes.set_xlim(-1.9, 1.9)
        axes.set_ylim(-1.25, 1.25)
    return figure
