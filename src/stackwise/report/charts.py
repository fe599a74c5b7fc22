"""The report's charts: each function draws one, for a page as SVG and for a file as PNG.

    chart = ranking(rows, metric, winner)
    chart.figure.savefig("ranking.png", dpi=200)

They are as wide as a phone, so that names stand above what they name and not beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stackwise.figures import (
    INK,
    OTHER,
    SOFT,
    WINNER,
    colour_of,
    dash_of,
    drawing,
    legend_below,
    new_figure,
    says,
    shortened,
)
from stackwise.report.beside import name_points
from stackwise.report.far_off import BEYOND, to_scale
from stackwise.report.numbers import number_text
from stackwise.runs import Run
from stackwise.studies.difference import OVER
from stackwise.studies.ranking import method_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 36
"""Pixels of a method in a chart that lists methods."""
LONGEST_LINE = 400
"""Points of a learning curve at most: a phone has fewer pixels."""


@dataclass(frozen=True)
class Chart:
    """A picture with what stands above it.

    Attributes:
        title: a few words.
        note: how to read it, in a sentence or two.
        figure: of matplotlib.
    """

    title: str
    note: str
    figure: "Figure"


def ranking(
    rows: Sequence[dict[str, Any]], metric: dict[str, str], winner: str, over: str = OVER
) -> Chart:
    """Mean test score of each method with its interval, best on top.

    Args:
        over: what the intervals are over, in words.
    """
    name = metric["name"]
    drawn, off = to_scale([row["mean"] for row in rows], metric["mode"])
    with drawing():
        figure, axes = _listing([row["method"] for row in rows], name)
        for place, row in enumerate(rows):
            words = f"{row['method']}: {name} {number_text(row['mean'])}"
            known = row["low"] is not None and row["low"] < row["high"] and not off[place]
            interval = (row["low"], row["high"]) if known else None
            _mark(axes, place, row["mean"], interval, row["method"] == winner, words,
                  drawn=drawn[place])  # fmt: skip
    better = "left" if metric["mode"] == "min" else "right"
    note = f"Test {name}: mean, and 95 % interval over {over}; better is to the {better}."
    return Chart("Who wins", note + (BEYOND if any(off) else ""), figure)


def mean_ranks(record: dict[str, Any]) -> Chart:
    """Critical-difference plot: mean ranks over tables, bars joining what is not told apart."""
    from stackwise.studies.tables import groups_alike

    rows, difference = record["methods"], record["critical_difference"]
    alike = [] if difference is None else groups_alike(rows, difference)
    with drawing():
        figure, axes = _listing([row["method"] for row in rows], "mean rank", above=14 * len(alike))
        for place, row in enumerate(rows):
            words = f"{row['method']}: mean rank {row['rank']:.2f}"
            interval = (row["low"], row["high"]) if row["low"] < row["high"] else None
            _mark(axes, place, row["rank"], interval, place == 0, words, digits=3)
        for number, (low, high) in enumerate(alike):
            height = -0.6 - 14 / ROW * (number + 0.5)
            (bar,) = axes.plot([low, high], [height] * 2, color=SOFT, linewidth=5,
                               solid_capstyle="butt")  # fmt: skip
            says(bar, f"mean ranks {low:.2f} to {high:.2f} are not told apart")
    note = "Mean place by test score over the tables, with 95 % intervals; better is to the left. "
    if difference is None:
        note += "One table has no critical difference."
    else:
        note += (
            f"A bar above joins methods that are closer than the critical difference "
            f"({difference:.2f}): these tables do not tell them apart."
        )
    if record["friedman_p"] is not None:
        note += f" Friedman's test that all are alike: p = {record['friedman_p']:.2g}."
    return Chart("Who wins over all tables", note, figure)


def _listing(names: Sequence[str], label: str, above: float = 0) -> "tuple[Figure, Axes]":
    """Axes with a row a name, the first on top; `above` are pixels over them."""
    figure, axes = new_figure(height=ROW * len(names) + 56 + above)
    for place, name in enumerate(names):
        axes.text(0, place - 0.22, shortened(name), transform=axes.get_yaxis_transform(),
                  va="center", color=INK)  # fmt: skip
    axes.set_ylim(len(names) - 0.4, -0.6 - above / ROW)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(_few())
    axes.margins(x=0.06)
    return figure, axes


def _mark(
    axes: "Axes",
    place: int,
    value: float,
    interval: tuple[float, float] | None,
    wins: bool,
    words: str,
    digits: int = 4,
    drawn: float | None = None,
) -> None:
    """A point, its interval and its number, in the row `place`; a triangle where it is `drawn`
    nearer than it is.
    """
    at = value if drawn is None else drawn
    colour, height = (WINNER if wins else OTHER), place + 0.18
    if interval is not None:
        low, high = interval
        (line,) = axes.plot([low, high], [height] * 2, "|-", color=colour, linewidth=2,
                            markersize=8, markeredgewidth=2, clip_on=False)  # fmt: skip
        words += f" ({number_text(low, digits)} to {number_text(high, digits)})"
        says(line, words)
    shape = "o" if at == value else ">" if value > at else "<"
    (point,) = axes.plot(at, height, shape, color=colour, markersize=9, clip_on=False)
    says(point, words)
    axes.text(1, place - 0.22, number_text(value, digits), transform=axes.get_yaxis_transform(),
              ha="right", va="center", color=SOFT)  # fmt: skip


def costs(rows: Sequence[dict[str, Any]], metric: dict[str, str], winner: str) -> list[Chart]:
    """Score against training time, prediction time and size on disk."""
    sides = (
        ("fit_seconds", "At what training time", "seconds to fit"),
        ("predict_ms", "At what prediction time", "milliseconds per 1000 rows"),
        ("size_mb", "At what size", "MB on disk"),
    )
    corner = "Lower" if metric["mode"] == "min" else "Upper"
    drawn, off = to_scale([row["mean"] for row in rows], metric["mode"])
    made = []
    for column, title, label in sides:
        values = [max(row[column], 1e-6) for row in rows]
        with drawing():
            figure, axes = new_figure(height=270)
            axes.set_xscale("log")
            axes.set_xlim(min(values) / 2, max(values) * 2)
            _log_ticks(axes)
            axes.set_xlabel(f"{label} (log)")
            axes.set_ylabel(metric["name"])
            axes.yaxis.set_major_locator(_few())
            axes.margins(y=0.15)
            for row, value, score in zip(rows, values, drawn, strict=True):
                colour = WINNER if row["method"] == winner else OTHER
                shape = "o" if score == row["mean"] else "^" if row["mean"] > score else "v"
                (point,) = axes.plot(value, score, shape, color=colour, markersize=9)
                says(point, f"{row['method']}: {metric['name']} {number_text(row['mean'])} at "
                            f"{number_text(value, 3)} {label}")  # fmt: skip
            name_points(figure, axes, list(zip(values, drawn, strict=True)),
                        [row["method"] for row in rows])  # fmt: skip
        note = f"{corner} left is better." + (BEYOND if any(off) else "")
        made.append(Chart(title, note, figure))
    return made


def _few() -> Any:
    """Ticks that have room side by side on a phone."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10])


def _log_ticks(axes: "Axes") -> None:
    """Two to five round ticks on a logarithmic x axis, written as plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = axes.get_xlim()
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for heads in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [
            head * 10.0**decade
            for decade in decades
            for head in heads
            if low <= head * 10.0**decade <= high
        ]
        if len(ticks) > 1:
            break
    axes.xaxis.set_major_locator(FixedLocator(ticks[:: -(-len(ticks) // 5)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def learning_curves(finished: Sequence[Run]) -> Chart | None:
    """The monitored validation score by epoch; a method's seeds share a colour.

    Colours go by the order of the methods in `finished`, those without epochs counted too.
    """
    methods = list(dict.fromkeys(method_of(run.record) for run in finished))
    drawn: set[str] = set()
    longest = 0
    with drawing():
        figure, axes = new_figure(height=240)
        for run in finished:
            lines = [line for line in run.history if "epoch" in line and line.get("metrics")]
            watched = _monitored(lines)
            if watched is None:
                continue
            method = method_of(run.record)
            place = methods.index(method)
            step = -(-len(lines) // LONGEST_LINE)
            told = [*zip(_running(lines), lines, strict=True)]
            kept = told[::-step][::-1]  # the last one stays
            found = [
                (epoch, line["metrics"][watched])
                for epoch, line in kept
                if line["metrics"].get(watched) is not None
            ]
            (curve,) = axes.plot(
                *zip(*found, strict=True), color=colour_of(place), linestyle=dash_of(place),
                marker="o" if len(found) == 1 else None,
                label="_" if method in drawn else method,
            )  # fmt: skip
            drawn.add(method)
            longest = max(longest, len(found))
            last = found[-1]
            says(curve, f"{method}, seed {run.record['seed']}: {number_text(last[1])} at epoch "
                        f"{last[0]}, the last")  # fmt: skip
        if longest < 2:  # nothing, or dots that have no course
            return None
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation")
        axes.xaxis.set_major_locator(_few())
        axes.yaxis.set_major_locator(_few())
        legend_below(figure, axes)
    return Chart(
        "How they learned",
        "The validation score that early stopping watches, by epoch; a line a seed. Methods "
        "without epochs are not shown.",
        figure,
    )


def _running(lines: Sequence[dict[str, Any]]) -> list[int]:
    """The epochs of all phases in one count: each phase begins again at one."""
    counted, before, last, phase = [], 0, 0, None
    for line in lines:
        if line.get("phase") != phase:
            phase, before = line.get("phase"), before + last
        last = line["epoch"]
        counted.append(before + last)
    return counted


def _monitored(lines: Sequence[dict[str, Any]]) -> str | None:
    names = list(lines[-1]["metrics"]) if lines else []
    watched = [name for name in names if name.startswith("validation")]
    others = [name for name in names if name not in ("loss", "grad_norm", "lr")]
    return next(iter(watched or others or names), None)


def importance(found: Sequence[dict[str, Any]], metric: dict[str, str]) -> Chart:
    """Permutation importance of the winner, the 20 largest."""
    shown = found[:20]
    with drawing():
        figure, axes = new_figure(height=23 * len(shown) + 56)
        for place, item in enumerate(shown):
            (bar,) = axes.barh(place, item["mean"], height=0.62, color=WINNER)
            ends = [item["mean"] - item["std"], item["mean"] + item["std"]]
            (spread,) = axes.plot(ends, [place] * 2, color=INK, linewidth=1.2)
            words = f"{item['column']}: {number_text(item['mean'])} ± {number_text(item['std'], 2)}"
            says(bar, words)
            says(spread, words)
        axes.set_yticks(range(len(shown)), [shortened(item["column"], 20) for item in shown])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"loss in {metric['name']}")
        axes.xaxis.set_major_locator(_few())
    return Chart(
        "Which columns the winner uses",
        f"How much worse {metric['name']} gets when a column is shuffled (validation rows, mean "
        "and spread of three shuffles).",
        figure,
    )
