"""The command that compares methods on one source of data or on several."""

from pathlib import Path
from typing import Annotated, Any

import typer

from stackwise.cli.data_options import CompareCommand, data_of
from stackwise.cli.options import (
    FURTHER,
    RUNNING,
    Bag,
    ClassWeight,
    Debug,
    Device,
    DryRun,
    Json,
    Out,
    Preset,
    Resume,
    TaskName,
    Threads,
    TimeLimit,
    Track,
    With,
    app,
)
from stackwise.cli.printing import _ends, _files, _say_dry_run, _table
from stackwise.cli.reading import command, default_out, sets


@app.command(cls=CompareCommand)
def compare(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            help="A file, a folder or a data set's name, as SOURCE[:VALUE] where VALUE is what is "
            "predicted; several of them, or a TOML list."
        ),
    ],
    task_name: TaskName = None,
    with_: With = None,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="Only this method; repeat.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds.")] = 3,
    out: Out = None,
    preset: Preset = None,
    knobs: Annotated[
        list[str] | None, typer.Option("--set", help="knob=value or method.knob=value; repeat.")
    ] = None,
    tune: Annotated[
        int | None,
        typer.Option(
            help="Search each method's knobs with so many fits.", min=1, rich_help_panel=FURTHER
        ),
    ] = None,
    class_weight: ClassWeight = None,
    bag: Bag = None,
    stack: Annotated[
        bool,
        typer.Option("--stack", help="Join all runs into one ensemble.", rich_help_panel=FURTHER),
    ] = False,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Fit the winner again on all rows, after the choice.",
            rich_help_panel=FURTHER,
        ),
    ] = False,
    on: Annotated[
        str | None,
        typer.Option(
            "--on", help="Run on a Ray cluster: ray, or ray://host:port.", rich_help_panel=RUNNING
        ),
    ] = None,
    resume: Resume = False,
    device: Device = None,
    threads: Threads = None,
    time_limit: TimeLimit = None,
    workers: Annotated[
        int, typer.Option(help="Runs side by side.", min=1, rich_help_panel=RUNNING)
    ] = 1,
    track: Track = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Every method that serves your data, and baselines: who wins, how much, at what cost.

    For example: stackwise compare sales.csv:price
    """
    from stackwise import report, studies
    from stackwise.errors import KnobError
    from stackwise.progress import live_study
    from stackwise.tasks import open_task

    values: dict[str, dict[str, Any]] = {}
    for name, text in sets(knobs).items():
        slug, dot, knob = name.rpartition(".")
        values.setdefault(slug if dot else studies.EVERY, {})[knob] = text
    if class_weight is not None:
        values.setdefault(studies.EVERY, {})["class_weight"] = class_weight
    data = data_of(context)
    kind, options = data.kind, data.options
    assert kind is not None  # its absence was refused when the words were read
    several = len(sources) > 1 or Path(sources[0]).suffix == ".toml"
    folder = out or default_out("compare", "compare", kind.name if several else sources[0])
    settings: dict[str, Any] = {
        "methods": methods, "seeds": seeds, "preset": preset, "knobs": values, "tune": tune,
        "bag": bag, "stack": stack, "on": on, "device": device, "threads": threads,
        "workers": workers, "track": track,
    }  # fmt: skip
    first = studies.read_sources(sources, None, options)[0]
    if dry_run or not several:
        task = open_task(
            kind.name, first.source, studies.with_role(kind, first.options, first.target)
        )
    if dry_run:
        chosen = studies.plan(task, methods, preset, values)
        _say_dry_run(as_json, {"methods": chosen, "seeds": seeds, "out": str(folder)}, task)
        return
    limits: dict[str, Any] = {"resume": resume, "time_limit": time_limit, "command": command()}
    with live_study(quiet=as_json) as on_event:
        if several:
            if refit:
                raise KnobError("--refit is for one table: leave it out, or compare one at a time")
            bench = report.compare_tables(
                sources, out=folder, task=kind.name, data_options=options, on_event=on_event,
                **limits, **settings,
            )  # fmt: skip
            _end_of_benchmark(bench, kind.ending, as_json)
            return
        study = report.compare(
            task, out=folder, refit=refit, on_event=on_event, **limits, **settings
        )
    _end_of_study(study, kind.ending, as_json)


def _end_of_study(study: Any, ending: str, as_json: bool) -> None:
    from stackwise.report.numbers import interval_text
    from stackwise.report.verdict import of_study
    from stackwise.studies.limits import said_of

    record, folder = study.record, study.folder
    name = record["metric"]["name"]
    verdict = of_study(record, study.plan)
    document = {
        "folder": str(folder),
        "verdict": verdict,
        "metric": record["metric"],
        "ranking": record["ranking"],
        "winner": record["winner"],
        "failures": record["failures"],
        "not_begun": record["not_begun"],
        "limit": study.plan["limit"],
        "files": _files(folder, ("report.html", "study.json", "plan.json")),
        "next": f"stackwise predict {study.kept.folder} NEW -o predictions.{ending}",
    }
    refit = record.get("refit")
    if refit is not None:
        document["refit"] = refit
    if not as_json:
        _table(
            ("method", f"test {name}", "95 % interval", "rank", "fit s", "ms per 1000", "MB"),
            [
                (_named(row), f"{row['mean']:.5g}",
                 interval_text(row, "{:.5g}".format), f"{row['rank']:.1f}",
                 f"{row['fit_seconds']:.1f}", f"{row['predict_ms']:.1f}", f"{row['size_mb']:.2f}")
                for row in record["ranking"]
            ],
        )  # fmt: skip
    lines = [f"failed: {run}: {why}" for run, why in record["failures"].items()]
    if any(row["cut"] for row in record["ranking"]):
        lines.append("* The time limit cut it: more time may change its place.")
    lines += [said for said in (said_of(record["not_begun"]),) if said]
    if refit is not None and refit["folder"] is None:
        lines.append(f"Not fitted again on all rows: {refit['why']}")
    _ends(document, [*lines, verdict, f"Keep: {study.kept.folder}"], as_json)


def _end_of_benchmark(bench: Any, ending: str, as_json: bool) -> None:
    from stackwise.report.numbers import interval_text

    record = bench.record
    document = {"folder": str(bench.folder)} | record
    document["winners"] = {name: str(study.winner.folder) for name, study in bench.studies.items()}
    document["files"] = _files(bench.folder, ("report.html", "benchmark.json", "plan.json"))
    document["next"] = f"stackwise predict {bench.folder}/NAME NEW -o predictions.{ending}"
    if not as_json:
        _table(
            ("method", "mean rank", "95 % interval", "best on"),
            [
                (row["method"], f"{row['rank']:.2f}",
                 interval_text(row, "{:.2f}".format), row["wins"])
                for row in record["methods"]
            ],
        )  # fmt: skip
    lines = [f"failed: {name}: {why}" for name, why in record["failures"].items()]
    if record["critical_difference"] is not None:
        lines.append(
            f"Mean ranks closer than {record['critical_difference']:.2f} are not told apart by "
            f"{len(record['tables'])} tables."
        )
    _ends(document, lines, as_json)


def _named(row: dict[str, Any]) -> str:
    return f"{row['method']} *" if row["cut"] else str(row["method"])
