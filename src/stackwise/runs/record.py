"""What a run keeps: its record, a learner with its scores and answers, how it ended."""

import contextlib
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise import processes
from stackwise.catalog import Card, Entry
from stackwise.errors import Interrupted, TrainingError
from stackwise.files import read_json, replacing, write_json
from stackwise.runs.folder import FORMAT, OnEvent, Run

if TYPE_CHECKING:
    from stackwise.training.trackers import Tracker


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

    try:
        with session(
            folder=out, resume=resume, on_event=on_event, time_limit=time_limit, trackers=trackers
        ):
            yield
    except (Interrupted, KeyboardInterrupt):
        _mark(out, "interrupted")
        raise
    except TrainingError:
        _mark(out, "failed")
        raise


def _mark(out: Path, status: str) -> None:
    if not processes.is_first():
        return
    write_json(out / "run.json", read_json(out / "run.json") | {"status": status})


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
    out: Path, record: dict[str, Any], task: Any, *, variant: str | None, bag: int | None
) -> None:
    """Say that a run has begun, and on which data."""
    record |= {"data": task.describe(), "variant": variant, "bag": bag}
    write_json(out / "run.json", record)
    write_json(out / "columns.json", task.columns)


def finish_learner(
    out: Path, record: dict[str, Any], learner: Any, task: Any, fit_seconds: float
) -> None:
    """Keep the learner, judge it on the validation and (once) on the test part."""
    learner.save(out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # unseen values are expected in held-out rows
        judge_parts(out, record, learner, task, fit_seconds)
    finish(out, record)


def judge_parts(
    out: Path, record: dict[str, Any], learner: Any, task: Any, fit_seconds: float
) -> None:
    """Score both held-out parts; what was answered is kept."""
    scores = {}
    for part in ("validation", "test"):
        judged = task.judge(learner, part)
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
    record["notes"] = list(getattr(learner, "notes_", []))


def finish(out: Path, record: dict[str, Any]) -> None:
    """Write the final record last, then drop what only a resume needs."""
    kept = [p for p in out.rglob("*") if p.is_file() and "checkpoint" not in p.parts]
    models = (".safetensors", ".skops", ".ubj", ".txt")
    record["size_bytes"] = sum(
        os.path.getsize(p) for p in kept if p.suffix in models or p.name == "model.json"
    )
    record["status"] = "finished"
    write_json(out / "run.json", record)
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
