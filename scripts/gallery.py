"""The documentation's first page, made from the catalog and the evidence: chooser and gallery.

The chooser asks what a reader has and wants, and names a method, what it costs and how its claims
fared; the gallery shows the picture that each method's evidence module draws.
"""

import functools
import importlib
import io
import json
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stackwise.catalog import VERBS, Card, tasks
from stackwise.evidence import committed, verdicts
from stackwise.evidence.pictures import BLUE, canvas

ROOT = Path(__file__).parents[1]
Pictures = dict[str, tuple[str, str]]
"""By slug: the SVG, and in words what it shows."""
MODELS = {
    "learner": "a fitted learner",
    "decoder": "a language model",
    "encoder": "an encoder of text",
    "vision": "a vision transformer",
    "module": "a PyTorch module",
}
"""What a reader calls the kinds of models that a card takes."""
WANTS = {
    "build": "a model of it",
    "train": "a model of it, trained by rule",
    "grow": "a deeper model",
    "shrink": "a smaller or shallower model",
    "route": "another order of its blocks",
    "adapt": "the same model for new work",
    "combine": "one model out of several",
    "probe": "to see what each block does",
}
"""What a reader wants of a verb."""


def as_svg(figure: Any) -> str:
    """A figure as text that follows from what it shows: no date, no drawn identifiers."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"[ \t]+$", "", file.getvalue(), flags=re.MULTILINE)


def _stable(salt: str) -> Any:
    import matplotlib

    return matplotlib.rc_context(
        {"svg.hashsalt": salt, "svg.fonttype": "none", "font.family": "sans-serif"}
    )


@functools.cache
def picture_of(slug: str) -> tuple[str, str] | None:
    """The SVG that a method's evidence module draws of its committed evidence, and what it shows;
    None where it draws none, or nothing is committed yet.
    """
    record = committed(slug)
    draw = getattr(
        importlib.import_module(f"stackwise.evidence.{slug.replace('-', '_')}"), "picture", None
    )
    if draw is None or record is None:
        return None
    with _stable(slug):
        svg = as_svg(draw(record))
    return svg, " ".join((draw.__doc__ or "").split("\n\n")[0].split())


def further_pictures(slug: str) -> dict[str, str]:
    """The SVGs of what a method's evidence module draws besides (`FIGURES`), by file name, for the
    text of its page.
    """
    record = committed(slug)
    module = importlib.import_module(f"stackwise.evidence.{slug.replace('-', '_')}")
    found = {}
    for name, draw in getattr(module, "FIGURES", {}).items() if record else ():
        with _stable(f"{slug}-{name}"):
            found[f"{slug}-{name}"] = as_svg(draw(record))
    return found


def comparison() -> dict[str, Any]:
    """The committed comparison on several tables."""
    path = ROOT / "results" / "comparison" / "comparison.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def ranks_picture() -> str:
    """The SVG of the committed comparison: each method's mean rank with its interval."""
    methods = comparison()["methods"]
    with _stable("comparison"):
        figure, axes = canvas(height=1.0 + 0.34 * len(methods))
        for place, row in enumerate(methods):
            axes.plot([row["low"], row["high"]], [place, place], color=BLUE, lw=2, alpha=0.5)
            axes.plot([row["rank"]], [place], "o", color=BLUE)
        axes.set_yticks(range(len(methods)), [row["method"] for row in methods])
        axes.set_ylim(len(methods) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("mean rank, 95 % interval")
        return as_svg(figure)


def gallery(methods: Mapping[str, Card], pictures: Pictures, *, root: str, columns: int) -> str:
    """The pictures in rows, each under its method's title and over what it shows.

    Args:
        root: of links, seen from the page that shows it.
    """
    shown = [slug for slug in methods if slug in pictures]
    parts = []
    for first in range(0, len(shown), columns):
        part = shown[first : first + columns]
        rows = [
            [f"[{methods[slug].title}]({root}methods/{slug}.md)" for slug in part],
            ["---"] * len(part),
            [f"![{slug}: its evidence]({root}figures/{slug}.svg)" for slug in part],
            [pictures[slug][1].replace("|", "\\|") for slug in part],
        ]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in rows))
    return "\n\n".join(parts)


def one_a_verb(methods: Mapping[str, Card], pictures: Pictures) -> dict[str, Card]:
    """Of each verb the first method that has a picture."""
    found: dict[str, Card] = {}
    for verb in VERBS:
        of_verb = [of for slug, of in methods.items() if of.verb == verb and slug in pictures]
        found |= {of.slug: of for of in of_verb[:1]}
    return found


def fitting_times() -> dict[str, float]:
    """How many times a plain MLP's fitting time a method took: the median over the tables."""
    took = {(row["table"], row["slug"]): row["fit_seconds"] for row in comparison()["scores"]}
    plain = {table: seconds for (table, slug), seconds in took.items() if slug == "mlp"}
    ratios: dict[str, list[float]] = {}
    for (table, slug), seconds in took.items():
        ratios.setdefault(slug, []).append(seconds / plain[table])
    return {slug: statistics.median(found) for slug, found in ratios.items()}


def evidence_words(of: Card) -> str:
    """How many of a method's claims hold here."""
    found = verdicts(of.slug)
    if not found:
        return "not measured yet"
    part = found.get("holds in part")
    words = f"{found.get('holds', 0)} of {sum(found.values())} claims hold"
    return words + (f", {part} in part" if part else "")


def chooser(methods: Mapping[str, Card]) -> list[tuple[str, ...]]:
    """A row for each thing that a reader may have and want: what to take, its cost, its evidence.

    Rows of one thing that a reader has stand together, in the order of the verbs.
    """
    times = fitting_times()
    timed = next(card.title for card in tasks().values() if card.first)
    rows = []
    for verb in VERBS:
        for of in (of for of in methods.values() if of.verb == verb):
            take = f"[`{of.slug}`](methods/{of.slug}.md): {of.title}"
            for have in _haves(of):
                cost = of.cost
                if of.slug in times and have == timed:
                    cost += f"; {times[of.slug]:.2g} times an MLP's fitting time"
                rows.append((have, WANTS[verb], take, cost, evidence_words(of)))
    order = list(dict.fromkeys(row[0] for row in rows))
    return sorted(rows, key=lambda row: order.index(row[0]))


def _haves(of: Card) -> list[str]:
    """What a reader has to whom a method is of use: data for a learner, a model for the others. A
    probe of a method's own learners is of use to nobody else.
    """
    titles = {card.name: card.title for card in tasks().values()}
    found = []
    for entry in of.entries:
        if entry.kind == "learner":
            found += [titles.get(name, name) for name in entry.tasks]
        elif entry.takes and not (entry.takes == ("learner",) and "learner" in of.kinds):
            words = [MODELS[kind] for kind in MODELS if kind in entry.takes]
            every = len(words) == len(MODELS)
            found.append(("Any model" if every else _joined(words)) + _having(entry.having))
    return list(dict.fromkeys(found))


def _having(words: str) -> str:
    return f" with {words}" if words else ""


def _joined(words: list[str]) -> str:
    text = " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    return text[:1].upper() + text[1:]
