"""Names beside points, none over another, over a point or outside the plot."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stackwise.figures import INK, OTHER, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]
"""Left, bottom, right and top in pixels."""

SIZE = 11.5
NEAR = 8.0
"""Pixels from a point to its name; one farther away than twice this has a line to its point."""
GROWS = 60
"""Pixels by which a figure grows where names find no room."""
DISTANCES = (NEAR, 13.0, 20.0, 30.0, 42.0, 56.0, 72.0)
ANGLES = [math.radians(angle) for angle in (0, 180, 90, 270, 30, 150, 330, 210, 60, 120, 300, 240)]


def name_points(
    figure: "Figure", axes: "Axes", points: Sequence[tuple[float, float]], names: Sequence[str]
) -> None:
    """Write each name beside its point; the figure grows until all have room.

    Args:
        points: (x, y) in the data of `axes`.
    """
    boxes = None
    for _ in range(6):
        figure.draw_without_rendering()  # margins are known from here on
        boxes = _free_boxes(figure, axes, points, names)
        if boxes is not None:
            break
        figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + GROWS / 72)
    if boxes is None:
        return  # their tooltips name them
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    back = axes.transData.inverted()
    for at, box, name in zip(_pixels(axes, points), boxes, names, strict=True):
        left, bottom, right, top = box
        x, y = back.transform((left, bottom))
        text = axes.text(x, y, shortened(name), fontsize=SIZE, color=INK, ha="left", va="bottom")
        text.set_in_layout(False)
        if _gap(box, at) > 2 * NEAR:
            near = (min(max(at[0], left), right), min(max(at[1], bottom), top))
            (line,) = axes.plot(*back.transform([at, near]).T, color=OTHER, linewidth=0.8,
                                zorder=0.5)  # fmt: skip
            line.set_in_layout(False)


def _pixels(axes: "Axes", points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in axes.transData.transform(points)]


def _free_boxes(
    figure: "Figure", axes: "Axes", points: Sequence[tuple[float, float]], names: Sequence[str]
) -> list[Box] | None:
    """The nearest free box of each name; None where one finds none."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    plot = axes.get_window_extent(renderer)
    room = (plot.x0 + 2, plot.y0 + 2, figure.bbox.x1 - 2, plot.y1)
    at = _pixels(axes, points)
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in at]
    found = []
    for (x, y), name in zip(at, names, strict=True):
        text = axes.text(0, 0, shortened(name), fontsize=SIZE)
        extent = text.get_window_extent(renderer)
        text.remove()
        size = (extent.width + 2, extent.height)
        boxes = (_box(x, y, far, angle, size) for far in DISTANCES for angle in ANGLES)
        fits = (
            b for b in boxes if _inside(b, room) and not any(_meet(b, other) for other in taken)
        )
        # the first of which the reader cannot think that it names another point
        free = min(fits, key=lambda b: any(_gap(b, o) < _gap(b, (x, y)) for o in at), default=None)
        if free is None:
            return None
        taken.append(free)
        found.append(free)
    return found


def _box(x: float, y: float, far: float, angle: float, size: tuple[float, float]) -> Box:
    """A name's box whose nearest edge or corner is `far` from the point, in this direction."""
    width, height = size
    right, up = math.cos(angle), math.sin(angle)
    # the whole box to the left or the right of the point, or over or under its middle
    left = x + far * right + width * (right - 1) / 2
    bottom = y + far * up + height * (up - 1) / 2
    return left, bottom, left + width, bottom + height


def _gap(box: Box, point: tuple[float, float]) -> float:
    """Pixels between a box and a point."""
    x, y = point
    return math.hypot(max(box[0] - x, 0, x - box[2]), max(box[1] - y, 0, y - box[3]))


def _inside(box: Box, room: Box) -> bool:
    return box[0] >= room[0] and box[1] >= room[1] and box[2] <= room[2] and box[3] <= room[3]


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
