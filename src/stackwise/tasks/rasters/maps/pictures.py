"""Pictures of a map: the units in their colours, their spectra, what they agree with."""

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stackwise.figures import COLOURS, WIDTH, drawing, new_figure, says, shortened
from stackwise.tasks.rasters.maps.majority import MASKED

MOST_SPECTRA = 12


def colours(units: int) -> list[tuple[int, int, int]]:
    """A colour of three bytes for each unit: those of the library's charts, then further hues."""
    known = [tuple(bytes.fromhex(one[1:])) for one in COLOURS]
    more = [
        tuple(
            round(255 * part) for part in colorsys.hls_to_rgb((0.07 + n * 0.618034) % 1, light, 0.6)
        )
        for n, light in zip(range(max(units - len(known), 0)), [0.35, 0.7] * units)
    ]
    return [(r, g, b) for r, g, b in [*known, *more][:units]]


def as_rgba(units: np.ndarray, count: int) -> np.ndarray:
    """(H, W, 4) bytes of a map, transparent where it is masked."""
    table = np.zeros((256, 4), np.uint8)
    table[:count, :3], table[:count, 3] = colours(count), 255
    found: np.ndarray = table[units]
    return found


def map_picture(units: np.ndarray, names: Sequence[str]) -> Any:
    """A figure of a map, (H, W) uint8, and a legend below it."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    height, width = units.shape
    with drawing():
        tall = min(max(WIDTH * height / width, 60), 3 * WIDTH)
        rows = -(-len(names) // 3)
        figure = Figure(figsize=(WIDTH / 72, (tall + 22 * rows + 8) / 72), dpi=72,
                        layout="constrained")  # fmt: skip
        axes = figure.subplots()
        axes.imshow(as_rgba(units, len(names)), interpolation="nearest")
        axes.axis("off")
        marks = [
            Patch(facecolor=(red / 255, green / 255, blue / 255), label=shortened(name, 16))
            for (red, green, blue), name in zip(colours(len(names)), names, strict=True)
        ]
        if (units == MASKED).any():
            marks.append(Patch(facecolor="white", edgecolor="0.7", label="no data"))
        figure.legend(handles=marks, loc="outside lower left", ncols=3, handlelength=1.2,
                      columnspacing=1.0, fontsize=10.5)  # fmt: skip
    return figure


def spectra_picture(
    spectra: np.ndarray, spreads: np.ndarray, bands: Sequence[str], names: Sequence[str]
) -> Any:
    """A figure of the mean of each band over the pixels of a unit, with a standard deviation."""
    shown = min(len(names), MOST_SPECTRA)
    with drawing():
        figure, axes = new_figure(height=260)
        across = np.arange(len(bands))
        for unit, colour in enumerate(colours(len(names))[:shown]):
            hue = [part / 255 for part in colour]
            (line,) = axes.plot(across, spectra[unit], "o-", color=hue, markersize=3)
            says(line, names[unit])
            axes.fill_between(
                across, spectra[unit] - spreads[unit], spectra[unit] + spreads[unit], color=hue,
                alpha=0.12, linewidth=0,
            )  # fmt: skip
        some = across[:: -(-len(bands) // 12)]
        long = max(len(bands[place]) for place in some) > 3
        axes.set_xticks(some, [shortened(bands[place], 12) for place in some],
                        rotation=90 if long else 0)  # fmt: skip
        axes.set_ylabel("value of the band")
    return figure


def agreement_picture(counts: pd.DataFrame) -> Any:
    """A figure of the share of each class (down) that lies in each unit (across)."""
    share = counts.to_numpy() / np.maximum(counts.to_numpy().sum(1, keepdims=True), 1)
    with drawing():
        figure, axes = new_figure(height=max(160, min(90 + 26 * len(counts), 620)))
        for row, name in enumerate(counts.index):
            for column, unit in enumerate(counts.columns):
                number = int(counts.iloc[row, column])
                if not number:
                    continue
                (cell,) = axes.bar(
                    column, 0.96, 0.96, bottom=row - 0.48, color=COLOURS[0],
                    alpha=float(0.08 + 0.92 * share[row, column]),
                )  # fmt: skip
                says(cell, f"{name}: {number:,} pixels in {unit}")
                if len(counts.columns) <= 12:
                    axes.text(column, row, f"{share[row, column]:.0%}", ha="center", va="center",
                              fontsize="small")  # fmt: skip
        axes.set_xlim(-0.5, len(counts.columns) - 0.5)
        axes.set_ylim(len(counts) - 0.5, -0.5)
        axes.set_xticks(range(len(counts.columns)), [str(c) for c in counts.columns], rotation=90)
        axes.set_yticks(range(len(counts)), [shortened(str(name), 14) for name in counts.index])
        axes.set_xlabel("unit")
        axes.set_ylabel("class of the reference")
        axes.grid(False)
    return figure


def elbow_picture(curve: Mapping[str, Any]) -> Any:
    """A figure of the inertia by the number of units, the chosen one marked."""
    with drawing():
        figure, axes = new_figure(height=200)
        units, inertia = list(curve["units"]), list(curve["inertia"])
        axes.plot(units, inertia, "o-", color=COLOURS[0], markersize=3)
        at = units.index(curve["chosen"])
        (mark,) = axes.plot(units[at], inertia[at], "o", color=COLOURS[1], markersize=8)
        says(mark, f"{units[at]} units: the elbow")
        axes.set_xticks(units[:: -(-len(units) // 10)])
        axes.set_xlabel("units")
        axes.set_ylabel("inertia")
    return figure
