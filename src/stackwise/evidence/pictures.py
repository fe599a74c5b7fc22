"""What the pictures of the evidence have in common: one look, and rows of dots.

Each method's evidence module draws its own picture, from what was measured and nothing else:

    def picture(record): return dots({"beats an MLP": {"diamonds": [10.8], "adult": [1.4]}}, ...)
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2563eb", "#c2410c", "#8a8f98"
COLOURS = (BLUE, ORANGE, "#0d9488", "#9333ea", "#ca8a04", "#db2777", "#475569", "#65a30d")


def canvas(*, height: float = 3.4) -> "tuple[Figure, Axes]":
    """A figure with one pair of axes, open at the top and on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def numbers_of(record: Mapping[str, Any], claim: str) -> dict[str, Any]:
    """What was measured of one claim."""
    (found,) = (one["numbers"] for one in record["claims"] if one["id"] == claim)
    return dict(found)


def dots(
    rows: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    label: str,
    zero: bool = False,
    scale: Literal["linear", "log"] = "linear",
) -> "Figure":
    """A row a thing that was measured, a dot a value, a colour a series.

    Args:
        rows: what each row is called -> series -> its values.
        label: what the axis shows, with its unit.
        zero: draw the line at which nothing is won or lost.
    """
    names = list(dict.fromkeys(name for series in rows.values() for name in series))
    figure, axes = canvas(height=1.1 + 0.34 * len(rows))
    for place, series in enumerate(rows.values()):
        for name, values in series.items():
            colour = COLOURS[names.index(name) % len(COLOURS)]
            axes.scatter(values, [place] * len(values), s=30, color=colour, alpha=0.8, zorder=3)
    if zero:
        axes.axvline(0, color=GREY, lw=1, zorder=1)
    axes.set_xscale(scale)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", color=GREY, alpha=0.25, lw=0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)
    if len(names) > 1:
        marks = [
            axes.scatter([], [], s=30, color=COLOURS[number % len(COLOURS)], label=name)
            for number, name in enumerate(names)
        ]
        figure.legend(
            handles=marks, loc="outside upper center", ncols=min(len(marks), 4), frameon=False,
            fontsize=8, handletextpad=0.1, columnspacing=1.0,
        )  # fmt: skip
    return figure


def gain_dots(record: Mapping[str, Any], rows: Mapping[str, str], *, label: str) -> "Figure":
    """What each claim won, in per cent, a dot a table.

    Args:
        rows: the id of a claim -> what its row is called.
    """
    shown = {
        words: {
            name: [value]
            for name, value in numbers_of(record, claim)["gain_percent_by_table"].items()
        }
        for claim, words in rows.items()
    }
    return dots(shown, label=label, zero=True)
