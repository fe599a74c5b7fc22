"""The commands on a run or a model: apply, probe, merge."""

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from stackwise.cli.data_options import Data, ModelCommand, data_of
from stackwise.cli.learning import end_of_run
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
    TaskName,
    Threads,
    TimeLimit,
    Track,
    With,
    app,
)
from stackwise.cli.printing import _ends, _files, _print
from stackwise.cli.reading import command, default_out, recorded, sets


@app.command(cls=ModelCommand)
def apply(
    context: typer.Context,
    slug: Annotated[str, typer.Argument(help="A transform; 'stackwise list' shows them.")],
    model: ModelArgument,
    data: Annotated[str | None, typer.Option(help="Data to train or score on.")] = None,
    task_name: TaskName = None,
    with_: With = None,
    out: Out = None,
    seed: Seed = 0,
    preset: Preset = None,
    knobs: Sets = None,
    resume: Resume = False,
    device: Device = None,
    threads: Threads = None,
    time_limit: TimeLimit = None,
    track: Track = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Transform a run or a model: a run comes out, a language model in its folder `model`."""
    from stackwise.adapt import DELTA

    folder = out or default_out("apply", slug, model)
    run = _on_model(
        "transform", slug, model, data, data_of(context), folder, preset, sets(knobs),
        dry_run=dry_run, as_json=as_json, seed=seed, resume=resume, device=device, threads=threads,
        time_limit=time_limit, track=track,
    )  # fmt: skip
    if run is None:
        return
    inside = run.folder / "model"
    if (inside / "config.json").is_file() and not as_json:
        _print(f"The model is in {inside}: that folder loads in plain transformers")
    if (run.folder / DELTA).is_dir() and not as_json:
        _print(f"The change is in {run.folder}: the model with it is {model}+{run.folder}")
    end_of_run(run, as_json, f"stackwise report {run.folder}")


@app.command(cls=ModelCommand)
def probe(
    context: typer.Context,
    slug: Annotated[str, typer.Argument(help="A probe; 'stackwise list' shows them.")],
    model: ModelArgument,
    data: Annotated[str | None, typer.Option(help="Data to look at.")] = None,
    task_name: TaskName = None,
    with_: With = None,
    out: Out = None,
    seed: Seed = 0,
    preset: Preset = None,
    knobs: Sets = None,
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

    folder = out or default_out("probe", slug, model)
    run = _on_model(
        "probe", slug, model, data, data_of(context), folder, preset, sets(knobs),
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


@app.command()
def merge(
    model: ModelArgument,
    deltas: Annotated[
        list[Path], typer.Argument(help="Runs or folders that hold deltas of it; put on in order.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the new model.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Put deltas on a model for good: a plain model."""
    from stackwise import runs
    from stackwise.adapt import merge_delta

    opened = runs.open_reference(model) if "+" in model else model
    folder = merge_delta(opened, [runs.open_delta(delta) for delta in deltas], out)
    document = {"folder": str(folder), "files": [str(folder)]}
    document["next"] = f"stackwise probe depth-efficiency {folder}"
    _ends(document, [], as_json)


def _on_model(
    kind: Literal["transform", "probe"],
    slug: str,
    model: str,
    source: str | None,
    data: Data,
    folder: Path,
    preset: str | None,
    knobs: dict[str, str],
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
    values = runs.chosen_knobs(of, of.entry(kind), preset, knobs)
    opened = _data_for(model, source, data)
    if opened is None and kind == "probe":
        opened = _own_data(model, of.entry(kind).tasks)
    if dry_run:
        _ends({"method": slug, "knobs": values, "out": str(folder)}, ["Nothing was run."], as_json)
        return None
    with live(quiet=as_json) as on_event:
        return runs.derive_run(
            kind, slug, model, out=folder, data=opened, knobs=knobs, preset=preset,
            on_event=on_event, command=command(), **settings,
        )  # fmt: skip


def _data_for(model: str, source: str | None, data: Data) -> Any:
    """The data of a transform or probe: a loaded task, read as the run read its own where the model
    is a run of that task; or the source as it is, where the method reads it by itself.

    Raises:
        KnobError: an option is given that the source does not have.
    """
    from stackwise.errors import KnobError
    from stackwise.tasks import open_task

    if source is None or data.kind is None:
        if data.options:
            raise KnobError(f"--{next(iter(data.options))} is about data: give --data")
        return source
    own = recorded(model).get("data")
    options: dict[str, Any] = {}
    if isinstance(own, dict) and own.get("task") == data.kind.name:
        options |= own.get("options") or {}
        if data.kind.role is not None and own.get("target") is not None:
            options[data.kind.role] = own["target"]
    return open_task(data.kind.name, source, options | data.options)


def _own_data(model: str, tasks: Sequence[str]) -> Any:
    """The data that a run of one of these tasks was fitted on, found by the command that made it;
    None where they are not there any more, or are others by now.
    """
    from stackwise.errors import StackwiseError
    from stackwise.tasks import open_task

    record = recorded(model)
    own, words = record.get("data"), shlex.split(str(record.get("command") or ""))
    if not isinstance(own, dict) or own.get("task") not in tasks or words[1:2] != ["fit"]:
        return None
    options = dict(own.get("options") or {})
    for word in words[3:]:
        if not word.startswith("-"):
            with contextlib.suppress(StackwiseError):
                found = open_task(own["task"], word, options)
                if found.data_hash == own.get("hash"):
                    return found
    return None
