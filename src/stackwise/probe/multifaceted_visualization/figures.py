"""The probe's pictures: for each facet its members, their mean, and what was made of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stackwise.figures import INK, SOFT, colour_of, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stackwise.probe.multifaceted_visualization.making import Seen

ACROSS = 2
"""Members of a facet that a figure shows in a row, and rows of them."""


def facet_figure(seen: "Seen") -> "Figure":
    """A row a facet: members, their mean, the picture made from it, and one made from noise. Made
    pictures are stretched to the whole range of light.
    """
    from matplotlib.figure import Figure

    k, beside = len(seen.facets), bool(seen.beside)
    columns = 3 + beside
    figure = Figure(figsize=(2.1 * columns, 2.35 * k + 0.35), layout="constrained")
    figure.suptitle(shortened(seen.name, 60), color=INK, fontsize=12)
    grid = figure.add_gridspec(k, columns)
    for row in range(k):
        inner = grid[row, 0].subgridspec(ACROSS, ACROSS, wspace=0.04, hspace=0.04)
        for place in range(ACROSS**2):
            own = seen.members[row]
            axes = figure.add_subplot(inner[place // ACROSS, place % ACROSS])
            draw(axes, own[place] if place < len(own) else None)
        cells = [(seen.means[row], f"mean of {len(seen.members[row])}")]
        cells += [(stretched(seen.made[row]), f"made: {seen.reached[row]:.3g}")]
        if beside:
            cells += [(stretched(seen.beside[row]), f"from noise: {seen.beside_reached[row]:.3g}")]
        for column, (cell, title) in enumerate(cells, start=1):
            axes = figure.add_subplot(grid[row, column])
            draw(axes, cell)
            axes.set_title(title, fontsize=9, color=SOFT)
    return figure


def stretched(picture: Tensor) -> Tensor:
    """A picture (C, H, W) whose levels reach from 0 to 255 but for one in a hundred at each end; a
    series as it is.
    """
    if picture.ndim == 2:
        return picture
    low, high = torch.quantile(picture.flatten(), torch.tensor([0.01, 0.99])).tolist()
    return ((picture - low) / max(high - low, 1.0) * 255).clamp(0, 255)


def draw(axes: "Axes", picture: Tensor | None) -> None:
    """A picture (C, H, W), or a series (C, L) as lines; nothing where there is none."""
    axes.set_xticks([])
    axes.set_yticks([])
    if picture is None:
        axes.axis("off")
        return
    if picture.ndim == 2:
        for place, channel in enumerate(picture):
            axes.plot(channel.numpy(), color=colour_of(place), linewidth=1)
        axes.set_ylim(0, 255)
        return
    for spine in axes.spines.values():
        spine.set_visible(False)
    levels = picture.clamp(0, 255).byte().numpy()
    if len(levels) == 3:
        axes.imshow(np.moveaxis(levels, 0, -1), interpolation="nearest")
    else:
        axes.imshow(levels[0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def map_figure(seen: Sequence["Seen"]) -> "Figure":
    """The embedding in which facets were found, a panel a unit."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(seen), 3.2), layout="constrained")
    for place, one in enumerate(seen):
        axes = figure.add_subplot(1, len(seen), place + 1)
        for facet in range(len(one.facets)):
            points = one.facets.embedding[one.facets.labels == facet]
            across = points[:, 1] if points.shape[1] > 1 else np.zeros(len(points))
            axes.scatter(points[:, 0], across, s=14, color=colour_of(facet), label=facet + 1)
        axes.set_title(shortened(one.name, 34), fontsize=10, color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(title="facet", frameon=False, fontsize=8, title_fontsize=8)
    return figure
