"""The commands that look at results and at this machine, or pass them on."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from stackwise.cli.options import Debug, Json, Out, app
from stackwise.cli.printing import _emit, _ends, _item, _print, _table
from stackwise.errors import RunError


@app.command()
def evidence(
    slugs: Annotated[list[str] | None, typer.Argument(help="Methods; all by default.")] = None,
    scale: Annotated[str, typer.Option(help="smoke, cpu or gpu.")] = "smoke",
    part: Annotated[
        str | None, typer.Option(help="Measure one part, into the record that is there.")
    ] = None,
    out: Out = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure the claims of a method again, here."""
    from stackwise import evidence as measuring
    from stackwise.catalog import card, cards

    chosen = [card(slug).slug for slug in slugs] if slugs else list(cards(baselines=False))
    documents = []
    for slug in chosen:
        path = measuring.run(slug, scale, out=out or Path("results") / "evidence", part=part)
        document = json.loads(path.read_text(encoding="utf-8"))
        documents.append(document | {"file": str(path)})
        if not as_json:
            _print(f"{slug} at scale {scale}, {document['seconds']:.0f} s")
            _table(
                ("claim", "verdict"),
                [(claim["statement"], claim["verdict"]) for claim in document["claims"]],
            )
    if as_json:
        _emit(documents)
    else:
        _print("Wrote " + ", ".join(document["file"] for document in documents))


@app.command("runs")
def list_runs(
    root: Annotated[Path, typer.Argument(help="Where to look.")] = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The runs below a folder."""
    from stackwise import runs

    records, problems = [], []
    for run in runs.find(root):
        try:
            record = run.record
        except RunError as error:
            problems.append({"folder": str(run.folder), "status": "damaged", "problem": str(error)})
            continue
        records.append({"folder": str(run.folder)} | {
            key: record.get(key) for key in ("slug", "kind", "status", "seed", "scores", "seconds")
        })  # fmt: skip
    if as_json:
        _emit([*records, *problems])
        return
    for damaged in problems:
        _print(f"Left out: {damaged['problem']}")
    if not records:
        _print(f"No runs below {root}. Next: stackwise fit METHOD DATA --target COLUMN")
        return
    _table(
        ("folder", "method", "kind", "status", "seed", "test"),
        [
            (item["folder"], item["slug"], item["kind"], item["status"], item["seed"],
             _first_score(item["scores"]))
            for item in records
        ],
    )  # fmt: skip
    _print("Next: stackwise report RUN...")


def _first_score(scores: Any) -> str:
    test = (scores or {}).get("test") or {}
    return ", ".join(f"{name} {value:.4g}" for name, value in list(test.items())[:1])


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Runs, studies or probes.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The page to write (.html), or a folder for its report.html."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """One self-contained page about runs, studies and probes."""
    from stackwise.report import build

    place = out or Path("report.html")
    if place.suffix.lower() not in (".html", ".htm"):
        place = place / "report.html"
    problems: list[str] = []
    path = build(folders, place, problems.append)
    _ends(
        {"files": [str(path)], "problems": problems},
        [f"Left out: {problem}" for problem in problems],
        as_json,
    )


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A finished run of a learner.")],
    output: Annotated[Path, typer.Argument(help="The file to write, ending in .onnx.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a run's model as ONNX, with what is left to the caller beside it."""
    from stackwise import runs
    from stackwise.catalog.cards import load_target
    from stackwise.errors import ModelError

    learner = runs.load(run)
    exporter = getattr(learner, "exporter", None)
    if exporter is None:
        raise ModelError(f"{run} holds a {type(learner).__name__}, which cannot be written as ONNX")
    typer.echo("Tracing the network, writing it and checking what it answers", err=True)
    files = load_target(exporter)(learner, output)
    _ends({"files": [str(path) for path in files]}, [], as_json)


@app.command()
def push(
    run: Annotated[Path, typer.Argument(help="A finished run, or a study.")],
    repository: Annotated[str, typer.Argument(help="Where on the Hugging Face hub: owner/name.")],
    public: Annotated[
        bool, typer.Option("--public", help="Let a repository that is made be seen by all.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Put a run's model and card on the Hugging Face hub; rows of its data stay here."""
    from stackwise import runs

    address = runs.Run(runs.kept_folder(run)).push_to_hub(repository, private=not public)
    document = {"address": address}
    _ends(document, [f"Put on the hub: {address}"], as_json)


@app.command("data")
def list_data(as_json: Json = False, debug: Debug = False) -> None:
    """Data sets and models that packages carry, and whether they are here."""
    from stackwise import data

    entries = [entry.as_dict() for entry in data.names()]
    if as_json:
        _emit(entries)
        return
    kinds = list(dict.fromkeys(item["kind"] for item in entries))
    for kind in kinds:
        _print(kind)
        for item in (one for one in entries if one["kind"] == kind):
            where = "here" if item["here"] else f"not here: {item['install']}"
            _item(
                f"{item['name']}: {item['size']}", f"{item['licence']}; {item['source']}; {where}"
            )
    _print()
    _print("Names are sources: stackwise compare NAME; a model's name is a MODEL.")


@app.command()
def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """What this installation can do: versions, devices, optional parts, data; what would help."""
    from stackwise import machine

    document = machine.doctor()
    if as_json:
        _emit(document)
        return
    advice = document.pop("advice")
    _table(("part", "state"), document.items())
    for sentence in advice:
        _print(f"Advice: {sentence}")
