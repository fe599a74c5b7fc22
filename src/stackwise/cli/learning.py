"""The commands that learn from a table and predict: fit, compare, predict."""

from pathlib import Path
from typing import Annotated, Any

import typer

from stackwise.cli.options import (
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
    Seed,
    Sep,
    Sets,
    Source,
    Split,
    Target,
    Test,
    Threads,
    Time,
    TimeLimit,
    Track,
    Validation,
    app,
)
from stackwise.cli.printing import _emit, _ends, _files, _print, _table
from stackwise.cli.reading import _command, _data_options, _default_out, _open_table, _sets
from stackwise.errors import KnobError


@app.command()
def fit(
    slug: Annotated[str, typer.Argument(help="The method; 'stackwise list' shows them.")],
    source: Source,
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
    out: Out = None,
    seed: Seed = 0,
    preset: Preset = None,
    sets: Sets = None,
    resume: Resume = False,
    device: Device = None,
    threads: Threads = None,
    time_limit: TimeLimit = None,
    track: Track = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fit one method on your data: a run."""
    from stackwise import runs
    from stackwise.catalog import card
    from stackwise.progress import live

    of = card(slug)
    of.entry("learner")
    folder = out or _default_out("fit", slug, source)
    options = _data_options(
        sep=sep, encoding=encoding, drop=drop, keep=keep, group=group, time=time, split=split,
        validation=validation, test=test, metric=metric, problem=problem, max_rows=max_rows,
    )  # fmt: skip
    task = _open_table(source, target, options)
    knobs = _sets(sets)
    entry = of.entry("learner", task.problem)
    values = runs.chosen_knobs(of, entry, preset, knobs)
    if dry_run:
        _say_dry_run(as_json, {"method": slug, "knobs": values, "out": str(folder)}, task)
        return
    with live(quiet=as_json) as on_event:
        run = runs.fit_run(
            slug, task, out=folder, knobs=knobs, preset=preset, seed=seed, resume=resume,
            device=device, threads=threads, time_limit=time_limit, on_event=on_event,
            command=_command(), track=track,
        )  # fmt: skip
    _end_of_run(run, as_json, f"stackwise predict {folder} NEW.csv -o predictions.csv")


def _say_dry_run(as_json: bool, document: dict[str, Any], task: Any) -> None:
    if as_json:
        _emit(document | {"data": task.describe(), "columns": task.columns})
        return
    _print(f"Would write {document['out']}; nothing was run.")
    for note in task.notes:
        _print(f"  {note}")
    _table(
        ("column", "kind", "what is done"),
        [(item["column"], item["kind"], item["done"]) for item in task.columns],
    )


def _end_of_run(run: Any, as_json: bool, following: str) -> None:
    record = run.record
    names = ("run.json", "model.json", "model.safetensors", "metrics.jsonl", "model")
    document = {
        "folder": str(run.folder),
        "slug": record["slug"],
        "scores": record.get("scores"),
        "seconds": record.get("seconds"),
        "files": _files(run.folder, names),
        "next": following,
    }
    lines = []
    for part, scores in (record.get("scores") or {}).items():
        words = ", ".join(
            f"{name} {value:.5g}" for name, value in scores.items() if value is not None
        )
        lines.append(f"{part}: {words}")
    _ends(document, lines, as_json)


@app.command()
def compare(
    source: Source,
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
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="Only this method; repeat.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds.")] = 3,
    out: Out = None,
    preset: Preset = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="method.knob=value; repeat.")
    ] = None,
    resume: Resume = False,
    device: Device = None,
    threads: Threads = None,
    time_limit: TimeLimit = None,
    workers: Annotated[int, typer.Option(help="Runs side by side.")] = 1,
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
        slug, dot, knob = name.partition(".")
        if not dot:
            raise KnobError(f"in compare, --set names the method too: tabm.{name}={text}")
        knobs.setdefault(slug, {})[knob] = text
    options = _data_options(
        sep=sep, encoding=encoding, drop=drop, keep=keep, group=group, time=time, split=split,
        validation=validation, test=test, metric=metric, problem=problem, max_rows=max_rows,
    )  # fmt: skip
    folder = out or _default_out("compare", "compare", source)
    task = _open_table(source, target, options)
    if dry_run:
        chosen = studies.plan(task, methods, preset, knobs)
        _say_dry_run(as_json, {"methods": chosen, "seeds": seeds, "out": str(folder)}, task)
        return
    with live_study(quiet=as_json) as on_event:
        study = studies.compare(
            task, out=folder, methods=methods, seeds=seeds, preset=preset, knobs=knobs,
            resume=resume, device=device, threads=threads, time_limit=time_limit,
            workers=workers, on_event=on_event, command=_command(), track=track,
        )  # fmt: skip
    record = study.record
    name = record["metric"]["name"]
    document = {
        "folder": str(folder),
        "metric": record["metric"],
        "ranking": record["ranking"],
        "winner": record["winner"],
        "failures": record["failures"],
        "files": _files(folder, ("report.html", "study.json", "plan.json")),
        "next": f"stackwise predict {study.winner.folder} NEW.csv -o predictions.csv",
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


def _interval(row: dict[str, Any]) -> str:
    return "one seed" if row["low"] is None else f"{row['low']:.5g} to {row['high']:.5g}"


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A finished run of a learner, or a study.")],
    source: Source,
    output: Annotated[
        Path, typer.Option("-o", "--output", "--out", help="The file to write.")
    ] = Path("predictions.csv"),
    sep: Sep = None,
    encoding: Encoding = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict new rows with a run: a column `prediction`, and one a class with probabilities."""
    from stackwise import runs
    from stackwise.errors import RunError
    from stackwise.tasks.table.task import write_predictions

    learner = runs.load(run)
    if not hasattr(learner, "predict"):
        raise RunError(f"{run} holds a {type(learner).__name__}, which does not predict rows")
    rows = write_predictions(output, learner, source, sep=sep, encoding=encoding)
    _ends({"rows": rows, "files": [str(output)]}, [f"{rows} rows"], as_json)
