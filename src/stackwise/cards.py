"""The card of a model: `README.md` in its folder, for whoever finds it without its history.

What it is, the data that it learned from, how well it did there, how to open it, and what it is not
good for. It is written from the record alone and holds no row of the data.
"""

from collections.abc import Mapping
from typing import Any

from stackwise.shown import shown

PARTS = ("validation", "test")


def card_of(record: Mapping[str, Any]) -> str:
    """The card of a run, from the content of its `run.json`."""
    data = record.get("data") or {}
    name = f"{record['slug']} on {data['name']}" if data.get("name") else str(record["slug"])
    sections = [
        _front(record, data), f"# {_line(name)}", _what(record), _data(data), _scores(record),
        _loading(record), _limits(record, data), LICENCE,
    ]  # fmt: skip
    return "\n\n".join(section for section in sections if section) + "\n"


def card_of_learner(name: str, knobs: Mapping[str, Any], notes: list[str]) -> str:
    """The card of a learner that was fitted without a run: nothing is known of its data."""
    given = ", ".join(f"`{_line(knob)}={_line(value)}`" for knob, value in knobs.items())
    sections = [
        "---\nlibrary_name: stackwise\ntags: [stackwise]\n---", f"# {_line(name)}",
        f"A fitted `{_line(name)}` of stackwise with the knobs {given}.",
        "Nothing is recorded of the data that it learned from.", _load_lines("model.predict(rows)"),
        _bullets("Limits", [*notes, *ALWAYS]), LICENCE,
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _front(record: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    tags = ["stackwise", record["slug"], data.get("task"), data.get("problem")]
    listed = "".join(f"- {_line(tag)}\n" for tag in tags if tag)
    return f"---\nlibrary_name: stackwise\ntags:\n{listed}---"


def _what(record: Mapping[str, Any]) -> str:
    version = (record.get("versions") or {}).get("stackwise", "")
    did = {"transform": "Made by the transform", "probe": "Findings of the probe"}
    words = did.get(str(record["kind"]), "Fitted by the method")
    said = f"{words} `{_line(record['slug'])}` ({_line(record.get('title', ''))}) of stackwise"
    lines = [f"{said} {version}, seed {record.get('seed')}."]
    if record.get("model"):
        lines.append(f"The model that it began with: `{_line(record['model'].get('reference'))}`.")
    knobs = record.get("knobs") or {}
    given = ", ".join(f"`{_line(name)}={_line(value)}`" for name, value in knobs.items())
    lines += [f"Knobs: {given}; the others at their defaults."] if given else []
    return "\n".join([*lines, "The command stands in `run.json`."])


def _data(data: Mapping[str, Any]) -> str:
    if not data:
        return ""
    rows = data.get("rows") or {}
    known = {
        "name": data.get("name"), "predicted": data.get("target"), "problem": data.get("problem"),
        "classes": ", ".join(map(str, (data.get("classes") or [])[:20])) or None,
        "rows": ", ".join(f"{count:,} {part}" for part, count in rows.items()) or None,
        "features": data.get("features"), "hash": data.get("hash"),
    }  # fmt: skip
    lines = [f"| {name} | {_line(value)} |" for name, value in known.items() if value is not None]
    return "\n".join(["## Data", "", "| | |", "|---|---|", *lines])


def _scores(record: Mapping[str, Any]) -> str:
    scores = record.get("scores") or {}
    names = list(dict.fromkeys(name for part in PARTS for name in scores.get(part) or {}))
    if not names:
        return ""
    lines = ["## Scores", "", "| | validation | test |", "|---|---|---|"]
    for name in names:
        values = [(scores.get(part) or {}).get(name) for part in PARTS]
        cells = ["" if value is None else f"{value:.5g}" for value in values]
        lines.append(f"| {_line(name)} | {' | '.join(cells)} |")
    lines += ["", "Validation rows decided when training stopped and what was chosen; test rows "
              "decided nothing."]  # fmt: skip
    return "\n".join(lines)


def _loading(record: Mapping[str, Any]) -> str:
    if record.get("delta"):
        return "\n".join([
            "## Load", "", "A small change beside its base, which the folder does not hold:", "",
            "```python", "from stackwise.adapt import Delta", "",
            'delta = Delta.load("THIS_FOLDER/delta")', "with delta.on(base):", "    ...", "```", "",
            "On the command line `BASE+THIS_FOLDER` stands for the base with it put on.",
        ])  # fmt: skip
    use = "print(model.summary)" if record["kind"] == "probe" else "model.predict(rows)"
    return _load_lines(use if record.get("scores") or record["kind"] == "probe" else "")


def _load_lines(use: str) -> str:
    lines = ["## Load", "", "```python", "import stackwise", "",
             'model = stackwise.load("THIS_FOLDER")  # or "hf://owner/name"',
             *([use] if use else []), "```"]  # fmt: skip
    return "\n".join(lines)


ALWAYS = [
    "It knows what its training rows show, and nothing of rows unlike them.",
    "Nobody has looked at how it treats groups of people, or at what a wrong answer costs.",
]
LICENCE = (
    "## Licence\n\nstackwise is under Apache-2.0. The data, and the model that this one began "
    "with, keep their own terms; whoever passes this folder on names a licence here."
)


def _limits(record: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    seen = [*(data.get("notes") or []), *(record.get("notes") or [])]
    return _bullets("Limits", [*seen, *ALWAYS])


def _bullets(title: str, lines: list[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {_line(line)}" for line in lines)])


def _line(value: Any) -> str:
    """A value on one line, so that a column's name is no markup."""
    text = shown(" ".join(str(value).split()))[:300]
    return text.replace("`", "'").replace("|", "\\|").replace("<", "&lt;")
