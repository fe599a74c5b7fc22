"""The commands that learn from data and predict: fit, predict."""

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
    Seed,
    Sep,
    Sets,
    Source,
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
from stackwise.cli.printing import _ends, _files, _say_dry_run
from stackwise.cli.reading import _command, _data_options, _default_out, _open_data, _sets, _task_of


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
    task_name: TaskName = None,
    with_: With = None,
    out: Out = None,
    seed: Seed = 0,
    preset: Preset = None,
    sets: Sets = None,
    bag: Bag = None,
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
        target=target, sep=sep, encoding=encoding, drop=drop, keep=keep, group=group, time=time,
        split=split, validation=validation, test=test, metric=metric, problem=problem,
        max_rows=max_rows,
    )  # fmt: skip
    task = _open_data(_task_of(of, task_name), source, options, with_)
    knobs = _sets(sets)
    entry = of.entry("learner", task.problem)
    values = runs.chosen_knobs(of, entry, preset, knobs)
    if dry_run:
        _say_dry_run(as_json, {"method": slug, "knobs": values, "out": str(folder)}, task)
        return
    with live(quiet=as_json) as on_event:
        run = runs.fit_run(
            slug, task, out=folder, knobs=knobs, preset=preset, seed=seed, resume=resume,
            device=device, threads=threads, time_limit=time_limit, bag=bag, on_event=on_event,
            command=_command(), track=track,
        )  # fmt: skip
    ending = "csv" if task.name == "table" else "jsonl"
    following = f"stackwise predict {folder} NEW.{ending} -o predictions.{ending}"
    _end_of_run(run, as_json, following)


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

    learner = runs.load(run)
    if hasattr(learner, "write_predictions"):
        rows = learner.write_predictions(output, source)
    elif not hasattr(learner, "predict"):
        raise RunError(f"{run} holds a {type(learner).__name__}, which does not predict rows")
    else:
        from stackwise.tasks.table.task import write_predictions

        rows = write_predictions(output, learner, source, sep=sep, encoding=encoding)
    _ends({"rows": rows, "files": [str(output)]}, [f"{rows} rows"], as_json)
