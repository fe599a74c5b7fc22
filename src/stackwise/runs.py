"""A run: one method on one data set with one seed, kept as a folder.

    run.json            status, knobs, seed, data, scores, versions, machine, commit
    metrics.jsonl       one line an epoch
    model.*             what `load(folder)` gives back
    test_predictions.parquet, columns.json, figures/

Every file is replaced whole, and `run.json` says `finished` only when all the others are there,
so that a kill at any moment leaves a folder with which the same command and `resume=True` goes
on. A lock keeps two processes out of one run.
"""

import contextlib
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stackwise import processes
from stackwise.catalog import Card, Entry, card, preset_values
from stackwise.errors import (
    Interrupted,
    KnobError,
    ModelError,
    NotInstalled,
    RunError,
    StackwiseError,
    TrainingError,
)
from stackwise.files import plain, read_json, replacing, write_json

if TYPE_CHECKING:
    import pandas as pd

    from stackwise.training.trackers import Tracker


FORMAT = 1
OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Run:
    """A run folder, read when it is asked."""

    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json."""
        record = read_json(self.folder / "run.json")
        if not isinstance(record, dict) or record.get("format", 0) > FORMAT:
            raise RunError(
                f"{self.folder} was written by a newer stackwise (format {record.get('format')}, "
                f"this one reads up to {FORMAT})"
            )
        return record

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.folder / "run.json").is_file() and self.record["status"] == "finished"

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a line that a kill cut off is left out."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        parsed = []
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError):
                parsed.append(json.loads(line))
        return parsed

    @property
    def predictions(self) -> "pd.DataFrame":
        """The predictions on the test part: row, target, prediction, probability_<class>."""
        return self.predictions_on("test")

    def predictions_on(self, part: Literal["validation", "test"]) -> "pd.DataFrame":
        """The predictions on a part; on validation rows a bagged run's are out of fold."""
        import pandas as pd

        return pd.read_parquet(self.folder / f"{part}_predictions.parquet")


def load(run: Path | str) -> Any:
    """Give back what a finished run made: a fitted learner, a model or `Findings`.

    Of a study it is what its winner made.

    Raises:
        RunError: the folder is no run, is unfinished or damaged.
    """
    folder = Path(run)
    if (folder / "study.json").is_file():
        folder = folder / read_json(folder / "study.json")["winner"]["folder"]
    if not (folder / "run.json").is_file():
        raise RunError(f"{folder} is not a stackwise run: it has no run.json")
    record = Run(folder).record
    if record["status"] != "finished":
        raise RunError(
            f"{folder} is not finished (status {record['status']}); "
            "repeat its command with --resume"
        )
    if record["kind"] == "probe":
        from stackwise.findings import Findings

        return Findings.load(folder)
    from stackwise import models

    if (folder / "model.json").is_file():
        return models.load_learner(folder)
    return models.open_model(folder / "model")


def find(root: Path | str = ".") -> list[Run]:
    """Every run folder at or below `root`, oldest first."""
    paths = sorted(Path(root).rglob("run.json"), key=lambda path: path.stat().st_mtime)
    return [Run(path.parent) for path in paths]


@contextlib.contextmanager
def opened(out: Path | str, request: Mapping[str, Any], *, resume: bool) -> Iterator[bool]:
    """Hold the folder of a run while it is written.

    Args:
        out: the folder; made where it is missing.
        request: what was asked for. A folder that was started with another request is refused.
        resume: go on where a run of the same request is there.

    Yields:
        True where the run is finished already.

    Raises:
        RunError: the folder is not empty and `resume` is off, holds something else, was started
            with other settings, or another process writes it.
    """
    if not processes.is_first():  # the first holds the folder for all
        said = processes.told_by_first(None)
        if isinstance(said, StackwiseError):
            raise said
        yield said
        return
    with contextlib.ExitStack() as held:
        try:
            finished = held.enter_context(_held(Path(out), request, resume=resume))
        except StackwiseError as error:
            processes.told_by_first(error)
            raise
        yield processes.told_by_first(finished)


@contextlib.contextmanager
def _held(out: Path, request: Mapping[str, Any], *, resume: bool) -> Iterator[bool]:
    """`opened`, of the one process that writes."""
    import filelock

    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; --out must name a folder for the run")
    made = next((p for p in reversed([out, *out.parents]) if not p.exists()), None)
    here = [path for path in out.iterdir() if path.name != ".lock"] if out.is_dir() else []
    if here and not resume:
        raise RunError(
            f"{out} is not empty; add --resume to go on with it, or name another folder with --out"
        )
    if here and not (out / "request.json").is_file():
        raise RunError(f"{out} is not empty and holds no run; name another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out / ".lock", timeout=0)
        lock.acquire()
    except filelock.Timeout as error:
        raise RunError(f"{out} is being written by another process; wait for it to end") from error
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror or error}") from error
    try:
        asked = plain(dict(request))
        if (out / "request.json").is_file():
            _same_request(out, read_json(out / "request.json"), asked)
        else:
            write_json(out / "request.json", asked)
        yield (out / "run.json").is_file() and read_json(out / "run.json")["status"] == "finished"
    except TrainingError:
        raise
    except StackwiseError:
        if made is not None:  # a refused request leaves nothing behind, no parent folder either
            shutil.rmtree(made, ignore_errors=True)
        raise
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            (out / ".lock").unlink()


def _same_request(out: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            raise RunError(
                f"{out} was started with another {name}: {then.get(name)!r} then, "
                f"{now.get(name)!r} now; repeat the same command, or name another folder with --out"
            )


def chosen_knobs(
    of: Card, entry: Entry, preset: str | None, knobs: Mapping[str, Any]
) -> dict[str, Any]:
    """The preset's values under the given ones, checked. Words (from `--set`) are read."""
    values = preset_values(of, preset, entry) | entry.check(knobs, texts=True)
    for name, spec in entry.knobs.items():
        if spec.required and name not in values:
            raise KnobError(f"{of.slug} needs --set {name}=...: {spec.knob.help}")
    return values


def fit_run(
    slug: str,
    task: Any,
    *,
    out: Path | str,
    knobs: Mapping[str, Any] | None = None,
    preset: str | None = None,
    seed: int = 0,
    resume: bool = False,
    device: str | None = None,
    threads: int | None = None,
    time_limit: float | None = None,
    bag: int | None = None,
    variant: str | None = None,
    on_event: OnEvent | None = None,
    command: str | None = None,
    track: str | None = None,
) -> Run:
    """Fit the method `slug` on `task`, judge it once on the test part, and keep the run in `out`.

    Args:
        task: a loaded task (`TableTask.load(...)`).
        knobs: values, or words from a command line, that override the preset's.
        bag: fit that many times, each with one fold of the training and validation rows held out,
            and average; see `stackwise.tasks.table.bagged`.
        variant: what sets this run apart from others of its method, such as `tuned`.
        time_limit: seconds of training; the best state so far is kept.
        track: tensorboard, mlflow or none; None asks the environment's STACKWISE_TRACK.

    Raises:
        RunError: `out` cannot be used. KnobError: a knob is unknown or out of range.
    """
    of = card(slug)
    entry = of.entry("learner", task.problem)
    if of.lacking:
        raise NotInstalled(of.lacking)
    values = chosen_knobs(of, entry, preset, knobs or {})
    values |= _shared_knobs(entry, knobs, random_state=seed, device=device, threads=threads)
    request = {
        "kind": "fit",
        "slug": slug,
        "knobs": values,
        "preset": preset,
        "seed": seed,
        "data": task.data_hash,
        "bag": bag,
    }
    folds = None if bag is None else task.folds(bag)
    out = Path(out)
    from stackwise.training.trackers import chosen, tracked

    trackers = chosen(track) if processes.is_first() else ()
    processes.join(device)
    with opened(out, request, resume=resume) as finished, _threads(threads) as used:
        if finished:
            return Run(out)
        record = _new_record("fit", of, entry, values, preset, seed, used, command)
        if processes.is_first():
            _begin_learner(out, record, task, variant=variant, bag=bag)
        learner = entry.load()(**values)
        with tracked(trackers, out, record) as told:
            with _session(out, resume, on_event, time_limit, told):
                started = time.perf_counter()
                if folds is None:
                    task.fit(learner)
                else:
                    from stackwise.tasks.table.bagged import Bagged

                    learner = Bagged(learner).fit(task, folds)
                seconds = time.perf_counter() - started
            seconds = getattr(learner, "seconds_", seconds)
            if processes.is_first():
                _finish_learner(out, record, learner, task, _trained_seconds(Run(out), seconds))
        processes.wait()
    return Run(out)


def keep_learner(
    out: Path | str,
    slug: str,
    learner: Any,
    task: Any,
    *,
    seed: int,
    variant: str,
    fit_seconds: float,
    command: str | None = None,
) -> Run:
    """Keep a learner that was fitted elsewhere as a finished run, judged like any other."""
    of = card(slug)
    out = Path(out)
    with _threads(None) as used:
        record = _new_record("fit", of, of.entry("learner", task.problem), {}, None, seed, used,
                             command)  # fmt: skip
        _begin_learner(out, record, task, variant=variant, bag=None)
        _finish_learner(out, record, learner, task, fit_seconds)
    return Run(out)


@contextlib.contextmanager
def fitting(
    slug: str,
    task: Any,
    knobs: Mapping[str, Any],
    *,
    seed: int = 0,
    device: str | None = None,
    threads: int | None = None,
    time_limit: float | None = None,
    on_event: OnEvent | None = None,
) -> Iterator[Any]:
    """Fit a learner that nobody keeps, such as a trial of a search. Yields it, fitted."""
    from stackwise.training.session import session

    entry = card(slug).entry("learner", task.problem)
    values = entry.check(knobs)
    values |= _shared_knobs(entry, knobs, random_state=seed, device=device, threads=threads)
    with _threads(threads):
        learner = entry.load()(**values)
        with session(on_event=on_event, time_limit=time_limit):
            task.fit(learner)
        yield learner


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
    values |= _shared_knobs(entry, knobs, random_state=seed, device=device, time_limit=time_limit)
    asked = "apply" if kind == "transform" else kind  # the command's word
    request = _derived_request(asked, slug, reference, values, preset, seed, data)
    out = Path(out)
    from stackwise.training.trackers import chosen, tracked

    trackers = chosen(track) if kind == "transform" and processes.is_first() else ()
    processes.join(device)
    with opened(out, request, resume=resume) as finished, _threads(threads) as used:
        if finished:
            return Run(out)
        record = _new_record(kind, of, entry, values, preset, seed, used, command)
        record["model"] = request["model"]
        if processes.is_first():
            write_json(out / "run.json", record)
        done = processes.is_first() and data is None
        done = done and _done_on_disk(entry, reference, out, record, values)
        if processes.told_by_first(done):
            return Run(out)
        model = _opened_model(reference)
        with tracked(trackers, out, record) as told:
            with _session(out, resume, on_event, time_limit, told):
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
    _finish(out, record)
    return True


def _keep_derived(
    kind: str, out: Path, record: dict[str, Any], model: Any, result: Any, data: Any
) -> None:
    """Keep what a transform or a probe gave back."""
    if kind == "probe":
        result.save(out)
        _finish(out, record)
    elif hasattr(result, "predict") and hasattr(data, "part"):
        record["data"] = data.describe()
        write_json(out / "columns.json", data.columns)
        seconds = _trained_seconds(Run(out), record["seconds"]["fit"])
        _finish_learner(out, record, result, data, seconds)
    else:
        from stackwise.models import save_model

        save_model(result, out if hasattr(result, "predict") else out / "model")
        _copy_tokenizer(model, out / "model")
        if hasattr(data, "judge"):
            _judge_beside(out, record, model, result, data)
        _finish(out, record)


def _judge_beside(out: Path, record: dict[str, Any], model: Any, result: Any, task: Any) -> None:
    """Score what a transform made, and beside it the model that it was made of."""
    record["data"] = task.describe()
    _judge(out, record, result, task, record["seconds"]["fit"])
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


def _shared_knobs(entry: Entry, knobs: Mapping[str, Any] | None, **shared: Any) -> dict[str, Any]:
    """The settings that every command takes, where the method has such a knob and none was set."""
    return {
        name: value
        for name, value in shared.items()
        if name in entry.knobs and value is not None and name not in (knobs or {})
    }


def _derived_request(
    kind: str, slug: str, reference: Any, values: Any, preset: str | None, seed: int, data: Any
) -> dict[str, Any]:
    """What a transform or a probe was asked for; a model that is a run is known by its hash."""
    model: dict[str, Any] = {"reference": str(reference)}
    if not isinstance(reference, (str, Path)):
        model = {"reference": type(reference).__name__}
    else:
        if (Path(reference) / "run.json").is_file() and not Run(Path(reference)).finished:
            raise ModelError(f"{reference} is not finished; repeat its command with --resume first")
        model["hash"] = folder_hash(Path(reference))
    known = data.data_hash if hasattr(data, "data_hash") else _text_of(data)
    if kind == "apply" and isinstance(data, (str, Path)) and Path(data).is_file():
        known = {"file": str(data), "hash": _file_hash(Path(data))}
    return {
        "kind": kind,
        "slug": slug,
        "model": model,
        "knobs": values,
        "preset": preset,
        "seed": seed,
        "data": known,
    }


def _text_of(data: Any) -> str | None:
    return str(data) if isinstance(data, (str, Path)) else None if data is None else "object"


def _file_hash(path: Path) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def folder_hash(folder: Path) -> str | None:
    """SHA-256 over the model files of a folder, or None where it is no folder."""
    import hashlib

    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".skops") or path.name in ("model.json", "config.json"):
            digest.update(str(path.relative_to(folder)).encode())
            with open(path, "rb") as file:
                for block in iter(lambda: file.read(1 << 20), b""):
                    digest.update(block)
    return digest.hexdigest()[:16]


def _copy_tokenizer(model: Any, folder: Path) -> None:
    """Lay the tokenizer beside a transformed model, where the one it came from has it."""
    source = Path(getattr(model, "name_or_path", "") or "?")
    if source.is_dir() and folder.is_dir():
        for path in source.glob("*token*"):
            shutil.copy2(path, folder / path.name)


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[int]:
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
def _session(
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


def _trained_seconds(run: Run, measured: float) -> float:
    """The seconds of the whole fit: a resumed one adds what it took before it was cut off."""
    history = run.history
    return max(measured, float(history[-1].get("seconds") or 0.0) if history else 0.0)


def _new_record(
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


def _begin_learner(
    out: Path, record: dict[str, Any], task: Any, *, variant: str | None, bag: int | None
) -> None:
    """Say that a run has begun, and on which data."""
    record |= {"data": task.describe(), "variant": variant, "bag": bag}
    write_json(out / "run.json", record)
    write_json(out / "columns.json", task.columns)


def _finish_learner(
    out: Path, record: dict[str, Any], learner: Any, task: Any, fit_seconds: float
) -> None:
    """Keep the learner, judge it on the validation and (once) on the test part."""
    learner.save(out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # unseen values are expected in held-out rows
        _judge(out, record, learner, task, fit_seconds)
    _finish(out, record)


def _judge(out: Path, record: dict[str, Any], learner: Any, task: Any, fit_seconds: float) -> None:
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


def _finish(out: Path, record: dict[str, Any]) -> None:
    """Write the final record last, then drop what only a resume needs."""
    kept = [p for p in out.rglob("*") if p.is_file() and "checkpoint" not in p.parts]
    models = (".safetensors", ".skops", ".ubj", ".txt")
    record["size_bytes"] = sum(
        os.path.getsize(p) for p in kept if p.suffix in models or p.name == "model.json"
    )
    record["status"] = "finished"
    write_json(out / "run.json", record)
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
