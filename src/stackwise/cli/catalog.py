"""The commands that tell of methods: list, show."""

from typing import Annotated

import typer

from stackwise.cli.options import Debug, Json, app
from stackwise.cli.printing import _emit, _print, _table


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
                    "title": of.title,
                    "paper": of.paper,
                    "summary": of.summary,
                }
                for of in picked
            ]
        )
        return
    _table(
        ("method", "verb", "kind", "tasks", "verified", "what it does"),
        [
            (of.slug, of.verb, ", ".join(of.kinds), ", ".join(of.tasks) or "any model",
             "yes" if of.verified else "no", of.title)
            for of in picked
        ],
    )  # fmt: skip
    _print("Next: stackwise show METHOD")


@app.command()
def show(
    slug: Annotated[str, typer.Argument(help="The method.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A method's card: what it does, its knobs and its evidence."""
    from stackwise.catalog import card
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
    knobs = {name: spec for entry in of.entries for name, spec in entry.knobs.items()}
    _table(
        ("knob", "default", "takes", "what it is"),
        [
            (name, "required" if spec.required else spec.default, spec.describe(), spec.knob.help)
            for name, spec in knobs.items()
        ],
    )
    for name, values in of.presets.items():
        words = ", ".join(f"{knob}={value}" for knob, value in values.items())
        _print(f"preset {name}: {words or 'the defaults'}")
    if evidence:
        _print(f"evidence at scale {evidence['scale']} (commit {evidence['commit']}):")
        _table(
            ("claim", "verdict"),
            [(claim["statement"], claim["verdict"]) for claim in evidence["claims"]],
        )
    kind = of.kinds[0]
    first = {
        "learner": f"stackwise fit {slug} DATA --target COLUMN",
        "transform": f"stackwise apply {slug} MODEL",
        "probe": f"stackwise probe {slug} MODEL",
    }[kind]
    _print(f"Next: {first}")
