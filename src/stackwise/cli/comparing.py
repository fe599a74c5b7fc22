"""The command that compares methods on one table or on several."""

from pathlib import Path
from typing import Annotated, Any

import typer

from stackwise.cli.options import (
    Bag,
    Debug,
    Device,
    Drop,
    DryRun,
    Encoding,
    Group,
    Json,
    Keep,
    MaxRows,
    Metric,
    Out,
    Preset,
    Problem,
    Resume,
    Sep,
    Split,
    Target,
    TaskName,
    Test,
    Threads,
    Time,
    TimeLimit,
    Track,
    Validation,
    With,
    app,
)
from stackwise.cli.printing import _ends, _files, _say_dry_run, _table
from stackwise.cli.reading import _command, _data_options, _default_out, _open_data, _sets
from stackwise.errors import KnobError


@app.command()
def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="A file, a folder or a data set's name; several as FILE:TARGET, or a TOML list."
        ),
    ],
    target: Target = None,
    sep: Sep = None,
    encoding: Encoding = None,
    drop: Drop = None,
    keep: Keep = None,
    group: Group = None,
    time: Time = None,
    split: Split = None,
    validation: Validation = None,
    test: Test = None,
    metric: Metric = None,
    problem: Problem = None,
    max_rows: MaxRows = None,
    task_name: TaskName = None,
    with_: With = None,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="Only this method; repeat.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds.")] = 3,
    out: Out = None,
    preset: Preset = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="knob=value or method.knob=value; repeat.")
    ] = None,
    tune: Annotated[
        int | None, typer.Option(help="Search each method's knobs with so many fits.", min=1)
    ] = None,
    bag: Bag = None,
    stack: Annotated[
        bool, typer.Option("--stack", help="Join all runs into one stacked ensemble.")
    ] = False,
    on: Annotated[
        str | None, typer.Option("--on", help="Run on a Ray cluster: ray, or ray://host:port.")
    ] = None,
    resume: Resume = False,
    device: Device = None,
    threads: Threads = None,
    time_limit: TimeLimit = None,
    workers: Annotated[int, typer.Option(help="Runs side by side.", min=1)] = 1,
    track: Track = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Every method that serves your data, and baselines: who wins, how much, at what cost."""
    from stackwise import studies
    from stackwise.progress import live_study

    knobs: dict[str, dict[str, Any]] = {}
    for name, text in _sets(sets).items():
        slug, dot, knob = name.rpartition(".")
        knobs.setdefault(slug if dot else studies.EVERY, {})[knob] = text
    options = _data_options(
        sep=sep, encoding=encoding, drop=drop, keep=keep, group=group, time=time, split=split,
        validation=validation, test=test, metric=metric, problem=problem, max_rows=max_rows,
    )  # fmt: skip
    settings: dict[str, Any] = {
        "methods": methods, "seeds": seeds, "preset": preset, "knobs": knobs, "tune": tune,
        "bag": bag, "stack": stack, "on": on, "device": device, "threads": threads,
        "workers": workers, "track": track,
    }  # fmt: skip
    several = len(sources) > 1 or Path(sources[0]).suffix == ".toml"
    folder = out or _default_out("compare", "compare", "tables" if several else sources[0])
    kind = task_name or "table"
    if kind != "table" and several:
        raise KnobError(f"several sources are compared as tables; give one source of {kind}")
    if kind != "table":
        task = _open_data(kind, sources[0], options | ({"target": target} if target else {}), with_)
    elif dry_run or not several:
        first = studies.read_sources(sources, target, options)[0]
        task = _open_data(kind, first.source, {"target": first.target, **first.options}, with_)
    if dry_run:
        chosen = studies.plan(task, methods, preset, knobs)
        _say_dry_run(as_json, {"methods": chosen, "seeds": seeds, "out": str(folder)}, task)
        return
    limits: dict[str, Any] = {"resume": resume, "time_limit": time_limit, "command": _command()}
    with live_study(quiet=as_json) as on_event:
        if several:
            bench = studies.compare_tables(
                sources, out=folder, target=target, data_options=options, on_event=on_event,
                **limits, **settings,
            )  # fmt: skip
            _end_of_benchmark(bench, as_json)
            return
        study = studies.compare(task, out=folder, on_event=on_event, **limits, **settings)
    _end_of_study(study, as_json)


def _end_of_study(study: Any, as_json: bool) -> None:
    record, folder = study.record, study.folder
    name = record["metric"]["name"]
    ending = "csv" if study.plan["task"].get("task", "table") == "table" else "jsonl"
    document = {
        "folder": str(folder),
        "metric": record["metric"],
        "ranking": record["ranking"],
        "winner": record["winner"],
        "failures": record["failures"],
        "files": _files(folder, ("report.html", "study.json", "plan.json")),
        "next": f"stackwise predict {study.winner.folder} NEW.{ending} -o predictions.{ending}",
    }
    if not as_json:
        _table(
            ("method", f"test {name}", "95 % interval", "rank", "fit s", "ms per 1000", "MB"),
            [
                (row["method"], f"{row['mean']:.5g}", _interval(row), f"{row['rank']:.1f}",
                 f"{row['fit_seconds']:.1f}", f"{row['predict_ms']:.1f}", f"{row['size_mb']:.2f}")
                for row in record["ranking"]
            ],
        )  # fmt: skip
    failures = [f"failed: {run}: {why}" for run, why in record["failures"].items()]
    _ends(document, [*failures, f"Keep: {study.winner.folder}"], as_json)


def _end_of_benchmark(bench: Any, as_json: bool) -> None:
    record = bench.record
    document = {"folder": str(bench.folder)} | record
    document["winners"] = {name: str(study.winner.folder) for name, study in bench.studies.items()}
    document["files"] = _files(bench.folder, ("report.html", "benchmark.json", "plan.json"))
    document["next"] = f"stackwise predict {bench.folder}/TABLE NEW.csv -o predictions.csv"
    if not as_json:
        _table(
            ("method", "mean rank", "95 % interval", "best on"),
            [
                (row["method"], f"{row['rank']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}",
                 row["wins"])
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


def _interval(row: dict[str, Any]) -> str:
    return "one seed" if row["low"] is None else f"{row['low']:.5g} to {row['high']:.5g}"
