"""Pictures of a dependency lattice: its Hasse diagram where units are few, its sets where many."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stackwise.figures import INK, LINE, SOFT, WINNER, drawing, new_figure
from stackwise.shrink.lattice_pruning.dependency.lattice import Lattice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 40
"""Units up to which the Hasse diagram is drawn."""
SWEEPS = 12


def hasse_picture(lattice: Lattice) -> "Figure":
    """The Hasse diagram of at most 40 units, else their dependency sets, a row a unit.

    A line goes up from a unit to one that covers it. Critical units are filled.
    """
    with drawing():
        if len(lattice) > FEW or not lattice.crisp:
            return _sets(lattice)
        levels = heights(lattice.covers)
        widest = max(int((levels == level).sum()) for level in levels.unique())
        width = max(340, 30 * widest)
        figure, axes = new_figure(height=80 + 34 * int(levels.max() + 1), width=width)
        draw_hasse(axes, lattice.covers, lattice.critical, lattice.twins)
        return figure


def heights(covers: Tensor) -> Tensor:
    """(n,) int64: the longest way down from each unit; 0 has nothing below."""
    found = torch.zeros(len(covers), dtype=torch.int64)
    for _ in range(len(covers)):
        above = torch.where(covers, found[None] + 1, 0).amax(1)
        if torch.equal(above, found):
            break
        found = above
    return found


def draw_hasse(axes: "Axes", covers: Tensor, critical: Tensor, twins: Tensor) -> None:
    """Draw a diagram of few units into axes: numbers in circles, filled where critical.

    Args:
        covers: (n, n) bool, q covers p at [q, p]. critical: (n,) bool.
        twins: (n,) int64, the first unit with the same set, which stands for the others too.
    """
    shown = (twins == torch.arange(len(twins))).nonzero().flatten().tolist()
    level = heights(covers)
    place = _placed(covers, shown, level)
    for upper, lower in covers.nonzero().tolist():
        _draw_edge(axes, (place[lower], int(level[lower])), (place[upper], int(level[upper])))
    for unit in shown:
        kept = bool(critical[unit])
        like = (twins == unit).nonzero().flatten().tolist()
        axes.scatter(
            [place[unit]], [int(level[unit])], s=230, zorder=2, linewidth=1.2,
            color=WINNER if kept else "white", edgecolor=WINNER if kept else SOFT,
        )  # fmt: skip
        axes.annotate(
            str(unit) if len(like) == 1 else f"{unit}+{len(like) - 1}",
            (place[unit], int(level[unit])), ha="center", va="center", fontsize=8,
            color="white" if kept else INK, zorder=3,
        )  # fmt: skip
    axes.set_axis_off()
    axes.margins(0.08)
    for kept, words in ((True, "critical"), (False, "not critical")):
        if any(bool(critical[unit]) == kept for unit in shown):
            axes.scatter([], [], s=80, color=WINNER if kept else "white", label=words,
                         edgecolor=WINNER if kept else SOFT)  # fmt: skip
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9)


def _draw_edge(axes: "Axes", low: tuple[float, int], high: tuple[float, int]) -> None:
    """A line, bent where it passes levels between, so that it goes around what stands there."""
    bend = 0.35 if high[1] - low[1] > 1 else 0.0
    way = np.linspace(0, 1, 24 if bend else 2)
    across = low[0] + (high[0] - low[0]) * way + bend * np.sin(np.pi * way)
    axes.plot(across, low[1] + (high[1] - low[1]) * way, color=SOFT, lw=0.9, alpha=0.6, zorder=1)


def _placed(covers: Tensor, shown: list[int], level: Tensor) -> dict[int, float]:
    """Where each unit stands from left to right: near those that it is joined with, in turns from
    below and from above, evenly spaced on its level.
    """
    rows = {int(one): [unit for unit in shown if level[unit] == one] for one in level.unique()}
    place: dict[int, float] = {}
    for row in rows.values():
        place |= _even(row)
    joined = (covers | covers.T).numpy()
    for sweep in range(SWEEPS):
        for number in sorted(rows, reverse=bool(sweep % 2)):
            mean = {}
            for unit in rows[number]:
                near = [place[other] for other in shown if joined[unit, other]]
                mean[unit] = float(np.mean(near)) if near else place[unit]
            rows[number] = sorted(rows[number], key=lambda unit: (mean[unit], unit))
            place |= _even(rows[number])
    return place


def _even(row: list[int]) -> dict[int, float]:
    """Evenly spaced, around 0."""
    return {unit: number - (len(row) - 1) / 2 for number, unit in enumerate(row)}


def _sets(lattice: Lattice) -> "Figure":
    """The dependency sets of many units, the smallest first, with critical units at the side."""
    sets = lattice.sets.double()
    order = torch.from_numpy(np.argsort(sets.sum(1).numpy(), kind="stable"))
    figure, axes = new_figure(height=360)
    axes.imshow(sets[order][:, order].numpy(), cmap="Blues", vmin=0, vmax=1,
                interpolation="nearest", aspect="equal")  # fmt: skip
    marked = lattice.critical[order].nonzero().flatten().numpy()
    axes.scatter(np.full(len(marked), -0.03 * len(lattice)), marked, s=5, color=WINNER,
                 clip_on=False, label="critical")  # fmt: skip
    axes.set_xlabel("unit that is depended on")
    axes.set_ylabel("unit, smallest set first", labelpad=12)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_color(LINE)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.05, 1.0), frameon=False, fontsize=9)
    return figure
