"""From folders to a page."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from stackwise.errors import RunError
from stackwise.figures import COLOURS, INK, LINE, OTHER, SOFT, svg
from stackwise.files import write_text
from stackwise.report.charts import Chart
from stackwise.report.numbers import interval_text, number_text, seconds_text
from stackwise.report.sections import section
from stackwise.shown import shown

LIGHT = {"ink": INK, "soft": SOFT, "line": LINE, "other": OTHER,
         **{f"c{place}": colour for place, colour in enumerate(COLOURS)}}  # fmt: skip
DARK = {"ink": "#e2e8f0", "soft": "#a3b1c6", "line": "#334155", "other": "#7c8ba3"} | {
    f"c{place}": colour
    for place, colour in enumerate(
        ("#60a5fa", "#fbbf24", "#34d399", "#f87171", "#a78bfa", "#22d3ee", "#f472b6", "#a3e635")
    )
}
"""The colours of charts on light and on dark, by the variables that `stackwise.figures` writes."""


def build(
    folders: Iterable[Path | str], out: Path | str, on_problem: Callable[[str], None] | None = None
) -> Path:
    """Write the page about `folders` (studies, runs, probes; in this order) to `out`.

    Args:
        on_problem: told, in a sentence, of each folder and each run of a study that cannot be read;
            the page is about the others.

    Raises:
        RunError: a folder is none of them, is damaged or holds nothing finished, and nobody is told
            of it or no other is left.
    """
    import jinja2

    sections, problems = [], []
    for folder in folders:
        try:
            sections.append(section(Path(folder)))
        except RunError as error:
            if on_problem is None:
                raise
            problems.append(str(error))
    if not sections:
        nothing = "a report needs at least one run; 'stackwise runs' lists them"
        raise RunError("; ".join(problems) or nothing)
    if on_problem is not None:
        for problem in [*problems, *(told for found in sections for told in found["damaged"])]:
            on_problem(problem)
    drawn = 0
    for found in sections:
        found["charts"] = [_drawn(chart, drawn + n) for n, chart in enumerate(found["charts"])]
        drawn += len(found["charts"])
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stackwise", "report/templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number_text
    environment.filters["seconds"] = seconds_text
    environment.filters["interval"] = interval_text
    page = environment.get_template("page.html").render(
        title=sections[0]["title"],
        sections=sections,
        light=_variables(LIGHT),
        dark=_variables(DARK),
    )
    write_text(Path(out), shown(page, lines=True))
    return Path(out)


def _drawn(chart: Chart, number: int) -> dict[str, Any]:
    label = shown(f"{chart.title}. {chart.note}".strip())
    name = f"chart-{number}"
    return {"title": chart.title, "note": chart.note, "svg": svg(chart.figure, label, name=name)}


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
