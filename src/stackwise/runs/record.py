"""What a run keeps: its record, a learner with its scores and answers, how it ended."""

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise import processes
from stackwise.cards import card_of
from stackwise.catalog import Card, Entry, tasks
from stackwise.errors import StackwiseError, StorageError
from stackwise.files import is_part, remove, replacing, write_json, write_text
from stackwise.models import FITTED
from stackwise.protocols import Explains, Part, Task
from stackwise.runs.apart import Apart, forget_copies
from stackwise.runs.folder import FORMAT, OnEvent, Run
from stackwise.runs.holding import Held
from stackwise.seals import weight_hashes

if TYPE_CHECKING:
    from stackwise.training.tracking.trackers import Tracker


def task_of(data: Mapping[str, Any]) -> str:
    """The name of the task that a record's data are of; older records name none."""
    named = data.get("task")
    return str(named) if named else next(name for name, of in tasks().items() if of.first)


@contextlib.contextmanager
def computing_threads(count: int | None) -> Iterator[int]:
    """Compute with this many threads, and say how many they are."""
    import threadpoolctl
    import torch

    before = torch.get_num_threads()
    used = count or before
    torch.set_num_threads(used)
    try:
        with threadpoolctl.threadpool_limits(used):
            yield used
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def run_session(
    out: Path,
    resume: bool,
    on_event: OnEvent | None,
    time_limit: float | None,
    trackers: "Sequence[Tracker]",
) -> Iterator[None]:
    from stackwise.training.session import session

    with session(
        folder=out, resume=resume, on_event=on_event, time_limit=time_limit, trackers=trackers
    ):
        yield


def trained_seconds(run: Run, measured: float) -> float:
    """The seconds of the whole fit: a resumed one adds what it took before it was cut off."""
    history = run.history
    return max(measured, float(history[-1].get("seconds") or 0.0) if history else 0.0)


def new_record(
    kind: str,
    of: Card,
    entry: Entry,
    values: Mapping[str, Any],
    preset: str | None,
    seed: int,
    threads: int,
    command: str | None,
) -> dict[str, Any]:
    from stackwise.machine import commit, machine, versions

    return {
        "format": FORMAT,
        "status": "running",
        "kind": kind,
        "slug": of.slug,
        "title": of.title,
        "entry": entry.name,
        "knobs": dict(values),
        "preset": preset,
        "seed": seed,
        "threads": threads,
        "processes": processes.count(),
        "command": command or " ".join(["stackwise", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions(),
        "machine": machine(),
        "commit": commit(),
    }


def begin_learner(
    held: Held, record: dict[str, Any], task: Task, *, variant: str | None, bag: int | None
) -> None:
    """Say that a run has begun, and on which data."""
    record |= {"data": task.describe(), "variant": variant, "bag": bag}
    held.say("run.json", record)
    if isinstance(task, Explains):
        held.say("columns.json", task.columns)


def finish_learner(
    out: Path,
    record: dict[str, Any],
    learner: Any,
    task: Task,
    fit_seconds: float,
    *,
    also: Callable[[], None] | None = None,
    apart: Apart | None = None,
) -> None:
    """Keep the learner, judge it on the validation and (once) on the test part.

    Args:
        also: adds to the record before it is written for good.

    Raises:
        StackwiseError: a held-out part cannot be judged; the fitted learner stays, and loads.
    """
    learner.save(out)
    if isinstance(task, Explains):
        write_json(out / "columns.json", task.columns_of(learner))
    record["status"] = FITTED
    write_json(out / "run.json", record)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # unseen values are expected there
            judge_parts(out, record, learner, task, fit_seconds, apart=apart)
            if also is not None:
                also()
    except StorageError:
        raise
    except StackwiseError as error:
        raise type(error)(f"{error} (the fitted model is kept in {out}, without scores)") from error
    finish(out, record)


def judge_parts(
    out: Path,
    record: dict[str, Any],
    learner: Any,
    task: Task,
    fit_seconds: float,
    *,
    apart: Apart | None = None,
) -> None:
    """Score both held-out parts; what was answered is kept. `apart` judges validation samples."""
    scores = {}
    parts: tuple[Part, ...] = ("validation", "test")
    for part in parts:
        own = apart is not None and part == "validation"
        judged = apart.judge(learner) if own and apart else task.judge(learner, part)
        scores[part] = judged.scores
        with replacing(out / f"{part}_predictions.parquet") as beside:
            judged.samples.to_parquet(beside, index=False)
    record["scores"] = scores
    record["metric"] = {"name": task.metric.name, "mode": task.metric.mode}
    record["seconds"] = {
        "fit": fit_seconds,
        "predict_per_1000_rows": judged.seconds / max(len(judged.samples), 1) * 1000,
        "predict_one_row": judged.one,
    }
    if apart is not None:
        record["chosen_by"] = apart.words
        record["seconds"]["choosing"] = apart.seconds
    of_copies = [] if apart is None else apart.notes
    record["notes"] = [*getattr(learner, "notes_", []), *of_copies]


def finish(out: Path, record: dict[str, Any]) -> None:
    """Write the card, the final record last, then drop what only a resume needs."""
    forget_copies(out)
    write_text(out / "README.md", card_of(record))
    record["size_bytes"] = model_bytes(out)
    if not (out / "model.json").is_file():  # which has the hashes of a learner
        record["hashes"] = weight_hashes(out)
    record["status"] = "finished"
    write_json(out / "run.json", record)
    remove(out / "checkpoint")


def model_bytes(folder: Path) -> int:
    """Bytes of the files that hold a model; checkpoints and parts of files are none."""
    models = (".safetensors", ".skops", ".ubj", ".txt", ".cbm", ".npy")
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if (path.suffix in models or path.name == "model.json")
        and path.is_file()
        and not is_part(path)
        and "checkpoint" not in path.relative_to(folder).parts
    )
