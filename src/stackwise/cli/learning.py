"""The commands that learn from data and predict: fit, predict."""

import glob
import inspect
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from stackwise.cli.data_options import FitCommand, PredictCommand, data_of
from stackwise.cli.options import (
    Bag,
    ClassWeight,
    Debug,
    Device,
    DryRun,
    Json,
    Out,
    Preset,
    Resume,
    Seed,
    Sets,
    Source,
    TaskName,
    Threads,
    TimeLimit,
    Track,
    With,
    app,
)
from stackwise.cli.printing import _ends, _files, _say_dry_run
from stackwise.cli.reading import (
    command,
    default_out,
    options_in,
    recorded,
    run_folder,
    sets,
    task_in,
)
from stackwise.shown import sentence


@app.command(cls=FitCommand)
def fit(
    context: typer.Context,
    slug: Annotated[str, typer.Argument(help="The method; 'stackwise list' shows them.")],
    source: Source,
    task_name: TaskName = None,
    with_: With = None,
    out: Out = None,
    seed: Seed = 0,
    preset: Preset = None,
    knobs: Sets = None,
    class_weight: ClassWeight = None,
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
    from stackwise.tasks import open_task

    of, data = card(slug), data_of(context)
    assert data.kind is not None  # its absence was refused when the words were read
    folder = out or default_out("fit", slug, source)
    task = open_task(data.kind.name, source, data.options)
    given = sets(knobs) | ({} if class_weight is None else {"class_weight": class_weight})
    entry = of.entry("learner", task.problem, task=task.name)
    values = runs.chosen_knobs(of, entry, preset, given)
    if dry_run:
        _say_dry_run(as_json, {"method": slug, "knobs": values, "out": str(folder)}, task)
        return
    with live(quiet=as_json) as on_event:
        run = runs.fit_run(
            slug, task, out=folder, knobs=given, preset=preset, seed=seed, resume=resume,
            device=device, threads=threads, time_limit=time_limit, bag=bag, on_event=on_event,
            command=command(), track=track,
        )  # fmt: skip
    ending = data.kind.ending
    following = f"stackwise predict {folder} NEW -o predictions.{ending}"
    if "generate" in entry.verbs:
        following = f'stackwise generate {folder} "..."'
    end_of_run(run, as_json, following)


def end_of_run(run: Any, as_json: bool, following: str) -> None:
    """Say what a run scored, what it wrote, and what to do next."""
    from stackwise.runs.beside import lines_of

    record = run.record
    names = ("run.json", "model.json", "model.safetensors", "metrics.jsonl", "model", "delta")
    document = {
        "folder": str(run.folder),
        "slug": record["slug"],
        "scores": record.get("scores"),
        "seconds": record.get("seconds"),
        "files": _files(run.folder, names),
        "next": following,
    }
    for name in ("before", "measured"):
        if name in record:
            document[name] = record[name]
    lines = []
    for note in (record.get("data") or {}).get("notes") or []:
        lines.append(sentence(str(note)))
    for part, scores in (record.get("scores") or {}).items():
        if not scores:
            continue
        words = ", ".join(
            f"{name} {value:.5g}" for name, value in scores.items() if value is not None
        )
        lines.append(f"{part}: {words}")
    _ends(document, [*lines, *lines_of(record)], as_json)


@app.command(cls=PredictCommand)
def predict(
    context: typer.Context,
    run: Annotated[
        Path, typer.Argument(help="A finished run of a learner, a study, or MODEL+RUN of a change.")
    ],
    source: Source,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", "--out", help="The file to write.")
    ] = None,
    with_: With = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict new data with a run: one answer a row, in their order."""
    from stackwise import runs
    from stackwise.catalog import task_card
    from stackwise.errors import RunError
    from stackwise.knobs import check_values

    base, changes = runs.split_reference(str(run))
    learner = runs.open_reference(str(run)) if changes else runs.load(run)
    known = recorded(run)
    name = task_in(known) or next(iter(getattr(learner, "tasks", ())), None)
    if name is None:
        raise RunError(f"{run} holds a {type(learner).__name__}, which does not predict")
    kind = task_card(name)
    given = options_in(known, kind.predict) | data_of(context).options
    options = check_values(f"a {name}", kind.predict, given, texts=True)
    path = output or Path(f"predictions.{kind.ending}")
    writing = kind.load().write_predictions
    if "run" in inspect.signature(writing).parameters and known:
        options["run"] = runs.Run(run_folder(base))
    began = time.time()
    rows = writing(path, learner, source, **options)
    _ends({"rows": rows, "files": _written(path, options, began)}, [f"{rows} rows"], as_json)


def _written(path: Path, options: Mapping[str, Any], since: float) -> list[str]:
    """The file that was asked for, those written beside it under its name, and those of options."""
    beside = sorted(one for one in path.parent.glob(f"{glob.escape(path.stem)}*") if one != path)
    told = [Path(one) for one in options.values() if isinstance(one, (str, Path))]
    more = [one for one in (*beside, *told) if one.exists() and one.stat().st_mtime >= since - 1]
    return list(dict.fromkeys(map(str, [path, *more])))
