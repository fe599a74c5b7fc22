"""The commands that tell of methods: list, show."""

from typing import Annotated, Any

import typer

from stackwise.catalog import Card
from stackwise.cli.options import Debug, Json, app
from stackwise.cli.printing import _emit, _item, _print, _table
from stackwise.evidence import verdicts


@app.command("list")
def list_methods(
    verb: Annotated[str | None, typer.Option(help="Only methods of this verb.")] = None,
    task: Annotated[str | None, typer.Option(help="Only methods that serve this task.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The catalog of methods."""
    from stackwise.catalog import VERBS, cards
    from stackwise.errors import UnknownName, nearest

    known = cards(baselines=False)
    if verb is not None and verb not in VERBS:
        raise UnknownName(f"there is no verb {verb!r}.{nearest(verb, VERBS)}")
    tasks = {name for of in known.values() for name in of.tasks}
    if task is not None and task not in tasks:
        raise UnknownName(f"no method serves the task {task!r}.{nearest(task, tasks)}")
    picked = [
        of
        for of in known.values()
        if (verb is None or of.verb == verb) and (task is None or task in of.tasks)
    ]
    if as_json:
        _emit(
            [
                {
                    "slug": of.slug,
                    "verb": of.verb,
                    "kinds": of.kinds,
                    "tasks": list(of.tasks),
                    "verified": bool(of.verified),
                    "evidence": verdicts(of.slug),
                    "title": of.title,
                    "paper": of.paper,
                    "summary": of.summary,
                }
                for of in picked
            ]
        )
        return
    for heading in VERBS:
        below = [of for of in picked if of.verb == heading]
        if below:
            _print(f"{heading}: {VERBS[heading]}")
        for of in below:
            _item(of.slug, of.title, f"{_kinds(of)}; {_trust(of)}")
    others = [
        of.slug
        for of in cards().values()
        if of.verb == "baseline" and "learner" in of.kinds and (task is None or task in of.tasks)
    ]
    if verb is None and others:
        _print("baselines")
        _item("every comparison of their task includes them", ", ".join(others))
    besides = [of for of in cards().values() if of.verb == "baseline" and "probe" in of.kinds]
    besides = [of for of in besides if task is None or task in of.tasks]
    if verb in (None, "probe") and besides:
        _print("probes that come from no paper")
        for of in besides:
            _item(of.slug, of.title, _kinds(of))
    _print()
    _print("verified: a test holds it against its authors' own code or package.")
    _print("evidence: what became of its paper's claims when they were measured again.")
    _print("Next: stackwise show METHOD")


def _kinds(of: Card) -> str:
    """What a method is, and on what."""
    return f"{', '.join(of.kinds)} on {', '.join(of.tasks) or 'any model'}"


def _trust(of: Card) -> str:
    """Whether a method is verified, and what became of its claims."""
    found = ", ".join(f"{verdict} {count}" for verdict, count in verdicts(of.slug).items())
    said = f"evidence: {found}" if found else "no evidence yet"
    return f"{'verified' if of.verified else 'not verified'}; {said}"


@app.command()
def show(
    slug: Annotated[str, typer.Argument(help="The method.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A method's card: what it does, its knobs and its evidence."""
    from stackwise.catalog import card, task_card
    from stackwise.evidence import committed

    of = card(slug)
    evidence = committed(slug)
    if as_json:
        _emit(of.as_dict() | {"verified": bool(of.verified), "evidence": evidence})
        return
    _print(f"{of.slug}: {of.title}")
    _print(of.summary)
    if of.paper:
        _print(f"Source: arXiv {of.paper}")
    _table(
        ("knob", "default", "takes", "what it is"),
        [
            (name, "required" if spec.required else spec.default, spec.describe(), spec.knob.help)
            for name, spec in of.knobs.items()
        ],
    )
    for name, values in of.presets.items():
        _print(f"preset {name}: {_settings(values)}")
    for entry in of.entries:
        if own := of.own_defaults(entry):
            _print(f"{entry.name} begins with {_settings(own)}")
        for name, values in entry.presets.items():
            _print(f"preset {name} of {entry.name}: {_settings(values)}")
    if evidence:
        _print(f"evidence at scale {evidence['scale']} (commit {evidence['commit']}):")
        _table(
            ("claim", "verdict"),
            [(claim["statement"], claim["verdict"]) for claim in evidence["claims"]],
        )
    kind = of.kinds[0]
    served = [task_card(name) for name in of.tasks[:1]]
    role = "".join(f" --{one.role} VALUE" for one in served if one.role)
    first = {
        "learner": f"stackwise fit {slug} DATA{role}",
        "transform": f"stackwise apply {slug} MODEL",
        "probe": f"stackwise probe {slug} MODEL",
    }[kind]
    _print(f"Next: {first}")


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{knob}={value}" for knob, value in values.items()) or "the defaults"
