"""Apply a transform or a probe to a model, and keep what comes out as a run."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from stackwise import processes
from stackwise.catalog import Entry, card
from stackwise.files import write_json
from stackwise.runs.folder import OnEvent, Run, opened
from stackwise.runs.record import (
    computing_threads,
    finish,
    finish_learner,
    judge_parts,
    new_record,
    run_session,
    trained_seconds,
)
from stackwise.runs.request import chosen_knobs, derived_request, shared_knobs


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
        data: a loaded task, what the method takes as its data, or for a transform of a language
            model a text file; `batch_size` among the knobs is then the rows of 128 tokens a step.
        track: tensorboard, mlflow or none; None asks the environment's STACKWISE_TRACK. A probe
            trains nothing and is not tracked.
    """
    of = card(slug)
    entry = of.entry(kind)
    values = chosen_knobs(of, entry, preset, knobs or {})
    values |= shared_knobs(entry, knobs, random_state=seed, device=device, time_limit=time_limit)
    asked = "apply" if kind == "transform" else kind  # the command's word
    request = derived_request(asked, slug, reference, values, preset, seed, data)
    out = Path(out)
    from stackwise.training.trackers import chosen, tracked

    trackers = chosen(track) if kind == "transform" and processes.is_first() else ()
    processes.join(device)
    with opened(out, request, resume=resume) as finished, computing_threads(threads) as used:
        if finished:
            return Run(out)
        record = new_record(kind, of, entry, values, preset, seed, used, command)
        record["model"] = request["model"]
        if processes.is_first():
            write_json(out / "run.json", record)
        done = processes.is_first() and data is None
        done = done and _done_on_disk(entry, reference, out, record, values)
        if processes.told_by_first(done):
            return Run(out)
        model = _opened_model(reference)
        with tracked(trackers, out, record) as told:
            with run_session(out, resume, on_event, time_limit, told):
                started = time.perf_counter()
                if kind == "transform":
                    data = _read_text(model, data, values)
                result = entry.load()(model, data, **values)
                seconds = time.perf_counter() - started
            record["seconds"] = {"fit": seconds}
            if processes.is_first():
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
    shutil.rmtree(out / "model", ignore_errors=True)  # of a run that was killed
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
    elif hasattr(result, "predict") and hasattr(data, "part"):
        record["data"] = data.describe()
        write_json(out / "columns.json", data.columns)
        seconds = trained_seconds(Run(out), record["seconds"]["fit"])
        finish_learner(out, record, result, data, seconds)
    else:
        from stackwise.models import save_model

        save_model(result, out if hasattr(result, "predict") else out / "model")
        _copy_tokenizer(model, out / "model")
        if hasattr(data, "judge"):
            _judge_beside(out, record, model, result, data)
        finish(out, record)


def _judge_beside(out: Path, record: dict[str, Any], model: Any, result: Any, task: Any) -> None:
    """Score what a transform made, and beside it the model that it was made of."""
    record["data"] = task.describe()
    judge_parts(out, record, result, task, record["seconds"]["fit"])
    began = time.perf_counter()
    scores = {part: task.judge(model, part).scores for part in ("validation", "test")}
    record["before"] = {
        "slug": "the model as it was",
        "scores": scores,
        "size_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        "seconds": {"fit": 0.0, "judge": time.perf_counter() - began},
    }


def _read_text(model: Any, data: Any, values: Mapping[str, Any]) -> Any:
    """A text file as batches of the language model; anything else as it is."""
    from torch import nn

    if not isinstance(data, (str, Path)) or not isinstance(model, nn.Module):
        return data
    from stackwise.tasks.text_batches import ROWS, language_batches

    return language_batches(model, Path(data), rows=values.get("batch_size", ROWS))


def _opened_model(reference: Any) -> Any:
    """The model that is named; of a learner that trained a language model, that model."""
    from stackwise.models import open_model

    model = open_model(reference)
    return getattr(model, "model_", model)


def _copy_tokenizer(model: Any, folder: Path) -> None:
    """Lay the tokenizer beside a transformed model, where the one it came from has it."""
    source = Path(getattr(model, "name_or_path", "") or "?")
    if source.is_dir() and folder.is_dir():
        for path in source.glob("*token*"):
            shutil.copy2(path, folder / path.name)
