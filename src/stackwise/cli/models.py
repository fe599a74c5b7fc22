"""The commands on a run or a model: apply, probe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stackwise.cli.learning import _end_of_run
from stackwise.cli.options import (
    Debug,
    Device,
    DryRun,
    Json,
    ModelArgument,
    Out,
    Preset,
    Resume,
    Seed,
    Sets,
    Target,
    TaskName,
    Threads,
    TimeLimit,
    Track,
    With,
    app,
)
from stackwise.cli.printing import _ends, _files
from stackwise.cli.reading import _command, _default_out, _open_data, _sets
from stackwise.errors import KnobError

if TYPE_CHECKING:
    from stackwise.catalog import Card


@app.command()
def apply(
    slug: Annotated[str, typer.Argument(help="A transform; 'stackwise list' shows them.")],
    model: ModelArgument,
    data: Annotated[str | None, typer.Option(help="Data to train or score on.")] = None,
    target: Target = None,
    task_name: TaskName = None,
    with_: With = None,
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
    """Transform a run or a model; what comes out is a run."""
    folder = out or _default_out("apply", slug, model)
    run = _on_model(
        "transform", slug, model, data, (target, task_name, with_), folder, preset, sets,
        dry_run=dry_run, as_json=as_json, seed=seed, resume=resume, device=device,
        threads=threads, time_limit=time_limit, track=track,
    )  # fmt: skip
    if run is not None:
        _end_of_run(run, as_json, f"stackwise report {run.folder}")


@app.command()
def probe(
    slug: Annotated[str, typer.Argument(help="A probe; 'stackwise list' shows them.")],
    model: ModelArgument,
    data: Annotated[str | None, typer.Option(help="Data to probe with.")] = None,
    target: Target = None,
    task_name: TaskName = None,
    with_: With = None,
    out: Out = None,
    seed: Seed = 0,
    preset: Preset = None,
    sets: Sets = None,
    resume: Resume = False,
    device: Device = None,
    threads: Threads = None,
    time_limit: TimeLimit = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Look into a run or a model: tables and figures."""
    from stackwise.findings import Findings

    folder = out or _default_out("probe", slug, model)
    run = _on_model(
        "probe", slug, model, data, (target, task_name, with_), folder, preset, sets,
        dry_run=dry_run, as_json=as_json, seed=seed, resume=resume, device=device, threads=threads,
        time_limit=time_limit,
    )  # fmt: skip
    if run is None:
        return
    summary = Findings.load(folder).summary
    files = _files(folder, ("findings.json", "figures"))
    files += [str(path) for path in sorted(folder.glob("*.csv"))]
    document = {"folder": str(folder), "summary": summary, "files": files}
    document["next"] = f"stackwise report {folder}"
    _ends(document, [f"{name}: {value}" for name, value in summary.items()], as_json)


def _on_model(
    kind: Literal["transform", "probe"],
    slug: str,
    model: str,
    data: str | None,
    about: tuple[str | None, str | None, list[str] | None],
    folder: Path,
    preset: str | None,
    sets: list[str] | None,
    *,
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> Any:
    """Run a transform or a probe, or with `dry_run` only check what was asked; then None."""
    from stackwise import runs
    from stackwise.catalog import card
    from stackwise.progress import live

    of = card(slug)
    knobs = _sets(sets)
    values = runs.chosen_knobs(of, of.entry(kind), preset, knobs)
    opened = _data_for(of, model, data, *about)
    if dry_run:
        _ends({"method": slug, "knobs": values, "out": str(folder)}, ["Nothing was run."], as_json)
        return None
    with live(quiet=as_json) as on_event:
        return runs.derive_run(
            kind, slug, model, out=folder, data=opened, knobs=knobs, preset=preset,
            on_event=on_event, command=_command(), **settings,
        )  # fmt: skip


def _data_for(
    of: "Card",
    model: str,
    data: str | None,
    target: str | None,
    task: str | None,
    given: list[str] | None,
) -> Any:
    """The data of a transform or probe.

    Where the model is a run of a learner on a table, it is read as that run's task; where the
    method names tasks, or one was asked for, as that task; else it is what the method takes, such
    as a file of text.
    """
    from stackwise.runs import Run

    if data is None:
        return None
    files = [Path(model) / name for name in ("run.json", "model.json")]
    recorded: dict[str, Any] = {}
    if all(file.is_file() for file in files):
        recorded = Run(Path(model)).record.get("data") or {}
    if recorded.get("task") == "table" and task in (None, "table"):
        options = dict(recorded.get("options") or {})
        options["target"] = target or recorded.get("target")
        return _open_data("table", data, options, given)
    if task is None and not of.tasks:
        if given:
            raise KnobError(f"{of.slug} reads its data itself; --with is for tasks, see --task")
        return data
    options = {} if target is None else {"target": target}
    return _open_data(task or of.tasks[0], data, options, given)
