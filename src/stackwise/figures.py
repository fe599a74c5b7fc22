"""matplotlib figures in a page: SVG whose text is text, whose marks say their values.

    with drawing():                                     # sizes and colours of a page
        figure, axes = new_figure(height=240)
        (mark,) = axes.plot(1.0, 2.0, "o")
        says(mark, "tabm: 2.0 at 1 s")                  # a tooltip
    svg(figure, "Score by time", name="chart-1")        # for a page; figure.savefig for a file

Sizes are pixels of a page: a figure is 340 of them wide, which fits a phone, and wider pages put
several side by side. Colours that a page has two of, for light and for dark, become its variables.
"""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stackwise.shown import shown

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 340
INK, SOFT, LINE = "#0f172a", "#64748b", "#e2e8f0"
WINNER, OTHER = "#2563eb", "#8494ab"
COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#65a30d")
DASHES = ("-", "--", ":", "-.")
"""Of the lines beyond the eighth, the sixteenth, and so on, which have the first ones' colours."""
VARIABLES = {
    INK: "ink", "#000000": "ink", SOFT: "soft", LINE: "line", OTHER: "other",
    **{colour: f"c{place}" for place, colour in enumerate(COLOURS)},
}  # fmt: skip
"""Colours of a figure, and the variable of the page that has them for light and for dark."""

_TIP = "says: "
_NEXT = "\u2028"
"""Parts the tooltips of several points; a line break would not survive in an attribute."""
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_LONG = re.compile(r"-?\d+\.\d{3,}")


@contextmanager
def drawing() -> Iterator[None]:
    """Make figures as a page shows them: small, with quiet axes."""
    import matplotlib

    style: Any = {
        "font.size": 12, "font.family": "sans-serif", "axes.titlesize": 12, "text.color": INK,
        "axes.labelcolor": SOFT, "axes.edgecolor": LINE, "axes.spines.top": False,
        "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.color": LINE,
        "grid.linewidth": 1, "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": SOFT,
        "ytick.labelcolor": SOFT, "xtick.major.size": 0, "ytick.major.size": 0,
        "xtick.minor.size": 0, "ytick.minor.size": 0, "legend.frameon": False,
        "lines.linewidth": 1.6,
        "axes.prop_cycle": f"cycler(color={COLOURS})", "axes.unicode_minus": True,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        yield


def new_figure(height: float = 240, width: float = WIDTH) -> "tuple[Figure, Axes]":
    """A figure of this size in pixels of a page, and its axes. Its margins fit what it holds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
    return figure, figure.subplots()


def colour_of(place: int) -> str:
    """The colour of the line or the method at this place."""
    return COLOURS[place % len(COLOURS)]


def dash_of(place: int) -> str:
    """Its line style: those that share a colour differ in it."""
    return DASHES[place // len(COLOURS) % len(DASHES)]


def shortened(name: str, longest: int = 36) -> str:
    """A name that fits; where something is cut off, an ellipsis says so."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def says(mark: "Artist", words: str | Sequence[str]) -> None:
    """Give a mark its tooltip; a line or a collection of points may have one a point."""
    texts = [words] if isinstance(words, str) else words
    # matplotlib writes the identifier of an artist into the file, where `svg` reads it again
    mark.set_gid(_TIP + _NEXT.join(shown(" ".join(text.split())) for text in texts))


def legend_below(figure: "Figure", axes: "Axes") -> None:
    """Name the lines of `axes` below them, in as many columns as fit; the figure grows by that."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    handles, names = axes.get_legend_handles_labels()
    if not names:
        return
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height = figure.get_size_inches() * 72
    for columns in (4, 3, 2, 1):
        legend = figure.legend(
            handles, [shortened(name) for name in names], loc="outside lower left", ncols=columns,
            handlelength=1.6, columnspacing=1.2, borderpad=0.2, fontsize=11.5,
        )  # fmt: skip
        box = legend.get_window_extent(renderer)
        if box.width <= width or columns == 1:
            break
        legend.remove()
    figure.set_size_inches(width / 72, (height + box.height) / 72)


def svg(figure: "Figure", label: str, *, name: str) -> str:
    """The figure as an `<svg>` element of a page; in a file of its own it would need a namespace.

    Args:
        label: what a reader who cannot see it is told.
        name: letters, digits and `-`; begins each identifier, so that two figures of a page have
            none in common.
    """
    import matplotlib

    _tame(figure)
    file = io.StringIO()
    about = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, dpi=72, metadata=about)
    root = ET.fromstring(file.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("metadata", "}style")):
                parent.remove(child)
    for parent in list(root.iter(f"{_SVG}g")):
        _give_titles(parent)
        _share_style(parent)
    _rename(root, name)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        for key in ("d", "x", "y", "transform"):
            value = element.get(key)
            if value is not None and "matrix" not in value and "scale" not in value:
                element.set(key, _shorter(value))
        if "style" in element.attrib:
            element.set("style", _themed(element.attrib["style"]))
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        element.tail = None  # the lines of the file
        if element.text is not None and not element.text.strip():
            element.text = None
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"class": "chart", "role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode")


def _tame(figure: "Figure") -> None:
    """Let no label out of data be read as a formula, or hold what XML cannot."""
    from matplotlib.text import Text

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            formatter: Any = axis.get_major_formatter()
            formatter.format_ticks = _tamed_ticks(formatter.format_ticks)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(_tamed(text.get_text()))


def _tamed_ticks(written: Callable[[Any], list[str]]) -> Callable[[Any], list[str]]:
    return lambda values: [_tamed(label) for label in written(values)]


def _tamed(label: str) -> str:
    """The label with control characters escaped; a dollar sign is one, but in the powers that
    matplotlib writes itself.
    """
    if label.startswith("$\\mathdefault{"):
        return label
    return re.sub(r"(?<!\\)\$", r"\\$", shown(label, lines=True).replace("\t", " "))


def _shorter(numbers: str) -> str:
    """Coordinates to a hundredth of a pixel, on one line."""
    rounded = _LONG.sub(lambda found: f"{round(float(found[0]), 2):g}", numbers)
    return " ".join(rounded.split())


def _give_titles(group: ET.Element) -> None:
    """Turn what `says` left in a group's identifier into `<title>`s, of it or of its points."""
    identifier = group.get("id", "")
    if not identifier.startswith(_TIP):
        return
    words = identifier.removeprefix(_TIP).split(_NEXT)
    points = list(group.iter(f"{_SVG}use"))
    marked = zip(points, words) if len(points) == len(words) > 1 else [(group, "; ".join(words))]
    for element, text in marked:
        title = ET.Element(f"{_SVG}title")
        title.text = text
        element.insert(0, title)


def _share_style(group: ET.Element) -> None:
    """Say the style that all points of a group have once."""
    points = [child for child in group if child.tag == f"{_SVG}use"]
    styles = {point.get("style") for point in points}
    if len(points) > 1 and len(styles) == 1 and None not in styles and "style" not in group.attrib:
        group.set("style", styles.pop() or "")
        for point in points:
            del point.attrib["style"]


def _rename(root: ET.Element, name: str) -> None:
    """Keep the identifiers that something refers to, under names that no other figure has."""
    for element in root.iter():
        if _LINK in element.attrib:
            element.set("href", element.attrib.pop(_LINK))
    used: dict[str, str] = {}
    for element in root.iter():
        for value in element.attrib.values():
            for found in re.findall(r"url\(#([^)]+)\)|^#(.+)$", value):
                used.setdefault(found[0] or found[1], f"{name}-{len(used)}")
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                del element.attrib[key]
                if value in used:
                    element.set("id", used[value])
            elif key == "href" and value[1:] in used:
                element.set(key, "#" + used[value[1:]])
            elif "url(#" in value:
                element.set(key, re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{used[m[1]]})", value))


def _themed(style: str) -> str:
    """The style with the page's variables for its colours, and with the page's font."""
    style = re.sub(r"#[0-9a-f]{6}", _variable, style)
    size = re.search(r"font: (?:[a-z0-9]+ )*?([\d.]+px) [^;]*;?", style)
    if size is not None:
        style = style.replace(size[0], f"font-size: {size[1]};")
    return re.sub(r"font-family: [^;]*;? ?", "", style)


def _variable(found: "re.Match[str]") -> str:
    name: Any = VARIABLES.get(found[0])
    return found[0] if name is None else f"var(--{name})"
