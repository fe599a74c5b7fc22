"""The probe's pictures: heat maps of effects, lines over depth."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"layer": "#1b1b1b", "attention": "#d1495b", "mlp": "#30638e", "stream": "#8d99ae"}
NAMES = {"layer": "block", "attention": "attention", "mlp": "MLP", "stream": "stream"}


def _axes(width: float = 6.4, height: float = 3.6, columns: int = 1) -> "tuple[Figure, list[Axes]]":
    # a figure of its own, unknown to pyplot: nothing to close, and no window
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height), layout="constrained")
    found = [figure.add_subplot(1, columns, place + 1) for place in range(columns)]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, found


def lines(table: pd.DataFrame, title: str, label: str, zero: bool = False) -> "Figure":
    """Columns of a table over depth; columns that end in `_max` are left out."""
    figure, (axes,) = _axes()
    if zero:
        axes.axhline(0, color="#bbbbbb", linewidth=0.8)
    middle = (len(table) - 1) / 2
    axes.axvline(middle, color="#dddddd", linewidth=0.8, linestyle="--")
    for name in table.columns:
        if not name.endswith("_max"):
            axes.plot(
                table.index, table[name], color=COLOURS.get(name), marker="o", markersize=2.5,
                linewidth=1.5, label=NAMES.get(name, name),
            )  # fmt: skip
    axes.set(title=title, xlabel="block", ylabel=label)
    axes.legend(frameon=False, fontsize="small")
    return figure


def heat(
    table: pd.DataFrame, title: str, row: str, column: str, high: float | None = 1.0
) -> "Figure":
    """A matrix as colours from 0 to `high`, above which they are clipped; rows go upwards."""
    figure, (axes,) = _axes(5.4, 4.6)
    values = table.to_numpy(dtype=float)
    image = axes.imshow(
        values, origin="lower", aspect="auto", cmap="magma", vmin=0, vmax=high,
        interpolation="nearest",
    )  # fmt: skip
    axes.set(title=title, xlabel=column, ylabel=row)
    clipped = high is not None and bool(np.nanmax(values, initial=0) > high)
    figure.colorbar(image, ax=axes, extend="max" if clipped else "neither")
    return figure


def bars(values: pd.DataFrame, title: str, label: str) -> "Figure":
    """One bar a block for each column."""
    figure, (axes,) = _axes()
    width = 0.8 / max(len(values.columns), 1)
    colours = ["#30638e", "#edae49", "#d1495b"]
    for place, name in enumerate(values.columns):
        x = values.index + width * (place - (len(values.columns) - 1) / 2)
        axes.bar(x, values[name], width, color=colours[place % 3], label=name.replace("_", " "))
    axes.set(title=title, xlabel="skipped block", ylabel=label)
    if len(values.columns) > 1:
        axes.legend(frameon=False, fontsize="small")
    return figure


def lens_figure(table: pd.DataFrame) -> "Figure":
    """Divergence and overlap of the lens over depth."""
    figure, (left, right) = _axes(4.2, 3.4, columns=2)
    left.plot(table.index, table["kl"], color=COLOURS["mlp"], marker="o", markersize=2.5)
    left.set(title="Lens: distance to the answer", xlabel="input of block", ylabel="KL (nats)")
    left.set_ylim(bottom=0)
    right.plot(
        table.index, table["overlap"], color=COLOURS["attention"], marker="o", markersize=2.5
    )
    right.set(title="Lens: shared top tokens", xlabel="input of block", ylabel="overlap")
    right.set_ylim(0, 1.03)
    return figure


def difficulty_figure(table: pd.DataFrame, depth: int) -> "Figure":
    """Depth score of each difficulty, on the scale of the whole stack."""
    figure, (axes,) = _axes(4.6, 3.4)
    x = np.arange(len(table))
    names = {"score": "later blocks", "score_output": "output"}
    for (name, label), colour in zip(names.items(), ("#30638e", "#edae49"), strict=True):
        axes.plot(x, table[name], color=colour, marker="o", label=label)
    axes.set_xticks(x, [str(label) for label in table.index])
    axes.set(title="Depth score", xlabel="difficulty", ylabel="block", ylim=(0, depth - 1))
    axes.legend(frameon=False, fontsize="small")
    return figure


def map_figure(table: pd.DataFrame) -> "Figure":
    """Error of the map between every two depths, with the best source of each target."""
    high = float(np.nanmax(table.to_numpy()))
    figure = heat(
        table, "Error of the linear map", "depth of the shallow model", "depth of the deep model",
        high=min(1.0, high) or 1.0,
    )  # fmt: skip
    best = table.to_numpy().argmin(0)
    figure.axes[0].plot(range(len(best)), best, "o", color="white", markersize=3)
    return figure
