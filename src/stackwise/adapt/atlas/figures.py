"""The picture of what was learned: a coefficient for each donor and block."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 24
"""Blocks that are all named; of more, so many are."""
LONGEST = 34
ABSENT = "#b8bcc4"
"""Where a donor does not have a block, or may not be taken there."""


def heat_map(coefficients: "pd.DataFrame") -> "Figure":
    """Coefficients by donor (rows) and block (columns, in the model's order); of a block that was
    split, the mean of its groups. Grey where a donor does not have the block.

    Args:
        coefficients: as `Composition.coefficients` gives them.
    """
    from matplotlib.figure import Figure

    donors = len(coefficients.columns) - 1 - ("part" in coefficients)
    figure = Figure(figsize=(8, 2.6 + 0.3 * donors), layout="constrained")
    draw(figure.subplots(), coefficients)
    return figure


def draw(axes: "Axes", coefficients: "pd.DataFrame") -> None:
    """The heat map into axes that are there, with its colour bar."""
    table = coefficients.drop(columns="part", errors="ignore").groupby("block", sort=False).mean()
    most = float(np.nanmax(np.abs(table.to_numpy()), initial=0.0)) or 1.0
    picture = axes.imshow(
        table.to_numpy().T, aspect="auto", cmap="RdBu_r", vmin=-most, vmax=most,
        interpolation="nearest",
    )  # fmt: skip
    axes.set_facecolor(ABSENT)
    axes.set_yticks(range(len(table.columns)), [_short(str(name)) for name in table.columns])
    step = -(-len(table) // NAMED)
    places = range(0, len(table), step)
    names = [_short(str(table.index[place])) for place in places]
    axes.set_xticks(places, names, rotation=90, fontsize=7)
    axes.tick_params(length=0)
    bar = axes.figure.colorbar(picture, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label("coefficient")


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]
