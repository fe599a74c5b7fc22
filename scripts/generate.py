"""Write what follows from the catalog and the results, or (--check) say where it differs.

- README.md, between its `generated:evidence` markers: a line a method with its verdicts.
- docs/methods/index.md: the methods by verb, and the knobs that all learners share.
- docs/methods/<slug>.md: the knobs, the evidence and the benchmarks between their markers. The
  rest of a page is written by hand; a method without a page gets one that holds its card.
- docs/figures/<slug>.svg: the picture that a method's evidence module draws of the committed
  evidence (`picture(record)`); its page and the gallery show it. What it draws besides (`FIGURES`,
  by name) is docs/figures/<slug>-<name>.svg, for the text of its page.
- docs/index.md: a chooser and the gallery (gallery.py); README.md: one picture a verb.
- docs/scale.md, stack.md, training.md: benchmarks that are of no method.
- docs/compare.md: the committed comparison on several tables, from results/comparison.
"""

import difflib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from beside_section import beside_rows, beside_words
from gallery import (
    Pictures,
    chooser,
    comparison,
    further_pictures,
    gallery,
    one_a_verb,
    picture_of,
    ranks_picture,
)
from usage import usage_section

from stackwise.catalog import VERBS, Card, cards
from stackwise.evidence import committed, verdicts
from stackwise.files import read_json, write_text
from stackwise.knobs import KnobSpec, knobs_of

ROOT = Path(__file__).parents[1]
VERDICTS = ("holds", "holds in part", "does not hold", "not testable at this scale")


def shared_knobs() -> dict[str, KnobSpec]:
    """The knobs that the training loop and the task give to every learner."""
    from stackwise.training.knobs import training_knobs

    found = knobs_of(training_knobs)
    for entry in cards()["mlp"].entries:
        for source in entry.load().shared_knobs:
            found |= knobs_of(source)
    return found


def cell(text: Any) -> str:
    """Text that stays inside one cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell(item) for item in row) + " |" for row in rows]
    return "\n".join(lines)


def knob_table(specs: dict[str, KnobSpec], changed: dict[str, Any] | None = None) -> str:
    """A row a knob."""
    rows = []
    for name, spec in specs.items():
        default = (changed or {}).get(name, spec.default)
        words = "none" if default is None else json.dumps(default).replace('"', "")
        shown = "required" if spec.required else f"`{words}`"
        rows.append((f"`{name}`", shown, spec.describe(), spec.knob.help))
    return table(("knob", "default", "takes", "what it is"), rows)


def knobs_section(of: Card) -> str:
    """The knobs of a method; those that it shares with every learner are named, not repeated."""
    found = of.knobs
    shared = shared_knobs() if "learner" in of.kinds else {}
    own = {name: spec for name, spec in found.items() if name not in shared}
    other = {
        name: spec for name, spec in found.items()
        if name in shared and spec.default != shared[name].default
    }  # fmt: skip
    calls = ", ".join(f"`{entry.name}`" for entry in of.entries)
    paper = f" · [arXiv {of.paper}](https://arxiv.org/abs/{of.paper})" if of.paper else ""
    parts = [f"`{of.slug}` · {' and '.join(of.kinds)} · {calls}{paper}"]
    if own:
        parts.append(knob_table(own))
    if shared:
        parts.append(
            "The [knobs that every learner has](index.md#knobs-of-every-learner) come on top."
        )
    if other:
        words = ", ".join(f"`{name}={spec.default}`" for name, spec in other.items())
        parts.append(f"Defaults of its own among them: {words}.")
    if of.presets:
        parts.append(table(("preset", "sets"), preset_rows(of.presets)))
    for entry in of.entries:
        if own_defaults := of.own_defaults(entry):
            words = ", ".join(f"`{name}={value}`" for name, value in own_defaults.items())
            parts.append(f"`{entry.name}` begins with others: {words}.")
        if entry.presets:
            head = ("preset", f"sets for `{entry.name}`")
            parts.append(table(head, preset_rows(entry.presets)))
    if of.verified:
        parts.append(f"Held against the authors' own code by `{of.verified}`.")
    return "\n\n".join(parts)


def preset_rows(presets: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """A row a preset."""
    return [
        (f"`{name}`", ", ".join(f"`{k}={v}`" for k, v in values.items()) or "the defaults")
        for name, values in presets.items()
    ]


def number(value: Any) -> str:
    """A number as a reader wants it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(number(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{name} {number(item)}" for name, item in value.items())
    return str(value)


def machine_words(record: dict[str, Any]) -> str:
    """The machine in a few words."""
    machine = record.get("machine") or {}
    parts = [machine.get("processor"), f"{machine.get('cores')} cores", machine.get("accelerator")]
    return ", ".join(str(part) for part in parts if part)


def evidence_section(of: Card) -> str:
    """Each claim with its verdict and the numbers behind it."""
    record = committed(of.slug)
    if record is None:
        return f"No evidence is committed yet. `stackwise evidence {of.slug}` measures it."
    drawn = picture_of(of.slug)
    seeds = sorted({seed for claim in record["claims"] for seed in claim["seeds"]})
    parts = [
        f"Measured at scale `{record['scale']}` in {record['seconds']:.0f} s on "
        f"{machine_words(record)}; commit `{record['commit']}`; seeds "
        f"{', '.join(map(str, seeds)) or 'none'}. Again: `{record['command']}`",
        *(_part_words(name, one) for name, one in record.get("parts", {}).items()),
        *([f"![{drawn[1]}](../figures/{of.slug}.svg)\n\n{drawn[1]}"] if drawn else []),
        table(
            ("claim", "verdict"),
            [(claim["statement"], f"**{claim['verdict']}**") for claim in record["claims"]],
        ),
    ]
    for claim in record["claims"]:
        numbers = {n: v for n, v in claim["numbers"].items() if n != "curves"}  # they are drawn
        rows = [(name, number(value)) for name, value in numbers.items()]
        lines = [f"**{claim['id']}**: {claim['verdict']}."]
        if claim["explanation"]:
            lines[0] += " " + " ".join(claim["explanation"].split())
        if rows:
            lines.append(table(("measured", "value"), rows))
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts)


def _part_words(name: str, part: dict[str, Any]) -> str:
    """Where the claims of a part that was measured alone come from."""
    return (
        f"The part `{name}` ({', '.join(part['claims'])}) was measured alone in "
        f"{part['seconds']:.0f} s on {machine_words(part)}; commit `{part['commit']}`. Again: "
        f"`{part['command']}`"
    )


def benchmark_section(of: Card) -> str:
    """A method's cost against peers: its benchmark, and further ones named `<slug>-<part>`."""
    found = sorted((ROOT / "results" / "benchmarks").glob(f"{of.slug}-*.json"))
    parts = [path.stem for path in found if path.stem not in cards()]
    return "\n\n".join(benchmark_table(name) for name in (of.slug, *parts))


def benchmark_table(name: str) -> str:
    """Cost against the peer, a row a case."""
    path = ROOT / "results" / "benchmarks" / f"{name}.json"
    if not path.is_file():
        return f"`python benchmarks/{name}.py` measures speed and memory against peers."
    record = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        (case["case"], cost(case["ours"], case["unit"]), cost(case["peer"], case["unit"]),
         case["peer_name"], f"{case['ratio']:.2f}", case["dtype"], case.get("reason", ""))
        for case in record["cases"]
    ]  # fmt: skip
    head = ("case", "ours", "peer", "the peer", "ratio", "type", "why below 0.95")
    about = (
        f"Medians of alternating runs on {machine_words(record)}; commit `{record['commit']}`. A "
        "ratio above 1 means that ours is cheaper."
    )
    return f"{about}\n\n{table(head, rows)}"


def cost(value: float, unit: str) -> str:
    """A cost in words, large ones without an exponent."""
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.4g} {unit}"


def readme_table(methods: dict[str, Card]) -> str:
    """A line a method: what it is and how its claims fared here."""
    rows = []
    for slug, of in methods.items():
        record = committed(slug)
        paper = f"[{of.paper}](https://arxiv.org/abs/{of.paper})" if of.paper else ""
        scale = record["scale"] if record else "not measured yet"
        found = verdicts(slug)
        counts = [found.get(verdict, 0) if record else "" for verdict in VERDICTS]
        link = f"[`{slug}`](docs/methods/{slug}.md)"
        rows.append((link, of.verb, of.title, paper, *counts, scale))
    return table(("method", "verb", "what it is", "arXiv", *VERDICTS, "scale"), rows)


def index_page(methods: dict[str, Card]) -> str:
    """The methods by verb."""
    parts = [
        "# Methods",
        "A method is a verb on a stack. `stackwise list` prints this list, `stackwise show METHOD` "
        "a card.",
    ]
    for verb, asks in VERBS.items():
        of_verb = [of for of in methods.values() if of.verb == verb]
        if of_verb:
            rows = [
                (f"[`{of.slug}`]({of.slug}.md)", " and ".join(of.kinds), of.title, of.summary)
                for of in of_verb
            ]
            parts.append(f"## {verb}: {asks}")
            parts.append(table(("method", "kind", "title", "what it does"), rows))
    parts.append("## Knobs of every learner")
    parts.append(
        "The training loop and the table task give these to every learner; a method may have "
        "defaults of its own. `class_weight` is for classifiers."
    )
    parts.append(knob_table(shared_knobs()))
    return "\n\n".join(parts) + "\n"


def first_page(methods: dict[str, Card], pictures: Pictures) -> str:
    """The first page: what to take for what one has and wants, and a picture a method."""
    head = ("I have", "I want", "take", "what it costs", "evidence")
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    text = between(text, "chooser", table(head, chooser(methods)), "What to take")
    return between(text, "gallery", gallery(methods, pictures, root="", columns=2), "Gallery")


def comparison_section() -> str:
    """The committed comparison: mean ranks, and the test score on every table."""
    record = comparison()
    methods = [row["method"] for row in record["methods"]]
    ranks = [
        (row["method"], f"{row['rank']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}", row["wins"])
        for row in record["methods"]
    ]
    found = {(row["table"], row["method"]): row for row in record["scores"]}
    metrics = {row["table"]: row["metric"] for row in record["scores"]}
    shown = methods + [name for name in record["left_out"] if name not in methods]
    scores = []
    for name in record["tables"]:
        cells = [found.get((name, method)) for method in shown]
        rows = record["rows"][name]
        scores.append(
            (f"{name}, {metrics[name]}", f"{rows['train']:,}",
             *(f"{row['mean']:.4g}" if row else "-" for row in cells))
        )  # fmt: skip
    about = (
        f"`{record['command']}` on {machine_words(record)}; commits "
        f"{', '.join(f'`{commit}`' for commit in record['commits'])}; {record['seeds']} seeds, "
        f"preset {record['preset']}, {record['fit_seconds'] / 60:.0f} minutes of fitting. Mean "
        f"ranks closer than {record['critical_difference']:.2f} are not told apart by "
        f"{len(record['tables'])} tables (Nemenyi, 5 %)."
    )
    left_out = [
        f"{name} has no score on some table and is not ranked." for name in record["left_out"]
    ]
    return "\n\n".join(
        [about, *left_out, table(("method", "mean rank", "95 % interval", "best on"), ranks),
         "Mean test score over seeds:",
         table(("table and metric", "training rows", *shown), scores)]
    )  # fmt: skip


def beside_section() -> str:
    """The kept model of a comparison beside another library's, on the same tables and time."""
    record = read_json(ROOT / "results" / "comparison" / "autogluon.json")
    head = ("table and metric", "ours", "AutoGluon", "ours ahead", "CPU s, ours",
            "CPU s, AutoGluon", "we kept")  # fmt: skip
    return f"{beside_words(record, machine_words(record))}\n\n{table(head, beside_rows(record))}"


SECTIONS: dict[str, tuple[str, Callable[[Card], str]]] = {
    "use": ("Use", usage_section),
    "knobs": ("Knobs", knobs_section),
    "evidence": ("Evidence", evidence_section),
    "benchmarks": ("Speed and memory", benchmark_section),
}


GUIDES = {"scale": "rebuild", "stack": "stack", "training": "training"}
"""Pages of docs/ that show a benchmark which is of no method."""


def between(text: str, name: str, content: str, heading: str) -> str:
    """Put `content` between the markers `name`; at the end, under `heading`, where they lack."""
    begin, end = f"<!-- generated:{name} -->", f"<!-- /generated:{name} -->"
    block = f"{begin}\n\n{content}\n\n{end}"
    if begin in text:
        return re.sub(
            f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: block, text, flags=re.DOTALL
        )
    return f"{text.rstrip()}\n\n## {heading}\n\n{block}\n"


def method_page(of: Card) -> str:
    """A method's page: the hand-written text as it is, the generated sections anew."""
    path = ROOT / "docs" / "methods" / f"{of.slug}.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# {of.title}\n\n{of.summary}\n"
    for name, (heading, section) in SECTIONS.items():
        text = between(text, name, section(of), heading)
    return text


def made() -> dict[Path, str]:
    """Every file with generated parts, as it should read."""
    methods = {slug: of for slug, of in cards(baselines=False).items() if of.package == "stackwise"}
    readme, compare = ROOT / "README.md", ROOT / "docs" / "compare.md"
    pictures = {slug: found for slug in methods if (found := picture_of(slug))}
    few = gallery(one_a_verb(methods, pictures), pictures, root="docs/", columns=3)
    text = between(readme.read_text(encoding="utf-8"), "pictures", few, "What they do")
    pages = {
        ROOT / "docs" / "methods" / f"{slug}.md": method_page(of) for slug, of in methods.items()
    }
    guides = {ROOT / "docs" / f"{page}.md": name for page, name in GUIDES.items()}
    return {
        **{
            page: between(
                page.read_text(encoding="utf-8"), name, benchmark_table(name), "Speed and memory"
            )
            for page, name in guides.items()
        },
        readme: between(text, "evidence", readme_table(methods), "Evidence"),
        ROOT / "docs" / "index.md": first_page(methods, pictures),
        ROOT / "docs" / "figures" / "comparison.svg": ranks_picture(),
        **{ROOT / "docs" / "figures" / f"{slug}.svg": svg for slug, (svg, _) in pictures.items()},
        **{
            ROOT / "docs" / "figures" / f"{name}.svg": svg
            for slug in methods
            for name, svg in further_pictures(slug).items()
        },
        ROOT / "docs" / "methods" / "index.md": index_page(methods),
        compare: between(
            between(
                compare.read_text(encoding="utf-8"),
                "comparison",
                comparison_section(),
                "Eight tables",
            ),
            "beside",
            beside_section(),
            "Beside AutoGluon",
        ),
        **pages,
    }


def main() -> None:
    """Write, or with --check compare."""
    differing = []
    for path, text in made().items():
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        if before == text:
            continue
        name = str(path.relative_to(ROOT))
        differing.append(name)
        if "--check" in sys.argv:
            lines = difflib.unified_diff(before.splitlines(), text.splitlines(), name, name, n=0)
            print("\n".join(list(lines)[:12]), file=sys.stderr)
        else:
            write_text(path, text)
            print(f"wrote {name}")
    if "--check" in sys.argv and differing:
        sys.exit(f"not up to date: {', '.join(differing)}; run 'make generate'")


if __name__ == "__main__":
    main()
