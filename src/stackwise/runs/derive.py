"""Apply a transform or a probe to a model, and keep what comes out as a run."""

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from stackwise import processes
from stackwise.adapt import DELTA, Delta
from stackwise.catalog import Entry, card
from stackwise.files import remove
from stackwise.models import check_named
from stackwise.protocols import Heads, Task
from stackwise.runs.beside import judged_before, knows_classes, measured
from stackwise.runs.folder import OnEvent, Run
from stackwise.runs.holding import opened
from stackwise.runs.opening import open_reference, split_reference
from stackwise.runs.record import (
    computing_threads,
    finish,
    finish_learner,
    judge_parts,
    model_bytes,
    new_record,
    run_session,
    trained_seconds,
)
from stackwise.runs.request import chosen_knobs, derived_request, shared_knobs, taught_by


def derive_run(
    kind: Literal["transform", "probe"],
    slug: str,
    reference: Any,
    *,
    out: Path | str,
    data: Any = None,
    knobs: Mapping[str, Any] | None = None,
    preset: str | None = None,
    seed: int = 0,
    resume: bool = False,
    device: str | None = None,
    threads: int | None = None,
    time_limit: float | None = None,
    on_event: OnEvent | None = None,
    command: str | None = None,
    track: str | None = None,
) -> Run:
    """Apply a transform, or a probe, to a run or a model, and keep what comes out as a run.

    Args:
        reference: a run folder, a model folder, a packaged model's name, a hub id or an object.
        data: a loaded task, or what the method takes as its data.
        track: trackers such as tensorboard, or none; None asks the environment's
            STACKWISE_TRACK. A probe trains nothing and is not tracked.
    """
    of = card(slug)
    entry = of.entry(kind)
    values = chosen_knobs(of, entry, preset, knobs or {})
    values |= shared_knobs(entry, knobs, random_state=seed, device=device, time_limit=time_limit)
    asked = "apply" if kind == "transform" else kind  # the command's word
    if isinstance(reference, (str, Path)):
        check_named(split_reference(str(reference))[0])
    named = taught_by(entry, values)
    request = derived_request(asked, slug, reference, values, preset, seed, data) | named
    out = Path(out)
    from stackwise.training.tracking.trackers import chosen, tracked

    trackers = chosen(track) if kind == "transform" and processes.is_first() else ()
    processes.join(device)
    with opened(out, request, resume=resume) as held, computing_threads(threads) as used:
        if held.finished:
            return Run(out)
        record = new_record(kind, of, entry, values, preset, seed, used, command)
        record |= {"model": request["model"]} | named
        if processes.is_first():
            held.say("run.json", record)
        done = processes.is_first() and data is None
        done = done and _done_on_disk(entry, reference, out, record, values)
        if processes.told_by_first(done):
            return Run(out)
        model = _opened_model(reference, data)
        with tracked(trackers, out, record) as told:
            with run_session(out, resume, on_event, time_limit, told):
                started = time.perf_counter()
                result = entry.load()(model, data, **values)
                seconds = time.perf_counter() - started
            record["seconds"] = {"fit": seconds}
            if processes.is_first():
                if on_event is not None:
                    on_event({"state": "concluding", "note": "scoring and keeping what came out"})
                _keep_derived(kind, out, record, model, result, data)
        processes.wait()
    return Run(out)


def _done_on_disk(
    entry: Entry, reference: Any, out: Path, record: dict[str, Any], values: Mapping[str, Any]
) -> bool:
    """Let a transform work from files to files, where it can and the model is such files."""
    from stackwise.models import model_folder

    method = getattr(entry.load(), "on_disk", None)
    folder = model_folder(reference) if method is not None else None
    if method is None or folder is None:
        return False
    began = time.perf_counter()
    remove(out / "model")  # of a run that was killed
    every = {name: spec.default for name, spec in entry.knobs.items()} | dict(values)
    if not method(folder, out / "model", **every):
        return False
    record["seconds"] = {"fit": time.perf_counter() - began}
    finish(out, record)
    return True


def _keep_derived(
    kind: str, out: Path, record: dict[str, Any], model: Any, result: Any, data: Any
) -> None:
    """Keep what a transform or a probe gave back."""
    if kind == "probe":
        result.save(out)
        finish(out, record)
        return
    if isinstance(result, Delta):
        _keep_delta(out, record, model, result, data)
        return
    from stackwise.models import as_stored, lay_beside, save_model, stored_dtype

    if stored_dtype(model) is not None:
        result.stored_dtype = stored_dtype(model)
        as_stored(result)  # so that what is judged is what is kept
    beside = functools.partial(_note_beside, record, model, result, data)
    if hasattr(result, "predict") and isinstance(data, Task):
        record["data"] = data.describe()
        seconds = trained_seconds(Run(out), record["seconds"]["fit"])
        finish_learner(out, record, result, data, seconds, also=beside)
        return
    save_model(result, out if hasattr(result, "predict") else out / "model")
    lay_beside(model, out / "model")
    if isinstance(data, Task):
        record["data"] = data.describe()
        judge_parts(out, record, result, data, record["seconds"]["fit"])
    beside()
    finish(out, record)


def _keep_delta(out: Path, record: dict[str, Any], model: Any, delta: Delta, data: Any) -> None:
    """Keep a small change beside the model that it is for; it is judged put on."""
    delta.save(out / DELTA)
    record["delta"] = {"kind": delta.kind, "base": delta.base}
    before = measured(model)
    if isinstance(data, Task):
        record["data"] = data.describe()
        record["before"] = judged_before(model, data)
    with delta.on(model, check=False):
        record["measured"] = {
            "before": before, "after": measured(model), "delta_bytes": model_bytes(out / DELTA),
        }  # fmt: skip
        if isinstance(data, Task):
            judge_parts(out, record, model, data, record["seconds"]["fit"])
    finish(out, record)


def _note_beside(record: dict[str, Any], model: Any, result: Any, data: Any) -> None:
    """Measure the model as it was beside what was made of it; this is kept already."""
    record["measured"] = {"before": measured(model), "after": measured(result)}
    if isinstance(data, Task) and knows_classes(model, data):
        record["before"] = judged_before(model, data)


def _opened_model(reference: Any, data: Any) -> Any:
    """The model that is named, deltas on; of a learner on language, the model that it holds; with
    a head for the data where they ask for one.
    """
    model = open_reference(reference)
    model = getattr(model, "model_", model)
    bare = not hasattr(model, "predict")  # a learner has its own
    return data.headed(model) if bare and isinstance(data, Heads) else model
