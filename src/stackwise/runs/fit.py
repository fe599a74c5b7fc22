"""Fit a learner on a task, and keep it as a run."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stackwise import processes
from stackwise.catalog import Entry, card
from stackwise.errors import KnobError, NotInstalled
from stackwise.protocols import Chooses, Foldable, Task
from stackwise.runs.apart import judged_apart
from stackwise.runs.folder import OnEvent, Run
from stackwise.runs.holding import Held, opened
from stackwise.runs.record import (
    begin_learner,
    computing_threads,
    finish_learner,
    new_record,
    run_session,
    trained_seconds,
)
from stackwise.runs.request import chosen_knobs, shared_knobs, taught_by


def fit_run(
    slug: str,
    task: Task,
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
    choosing: bool = False,
    on_event: OnEvent | None = None,
    command: str | None = None,
    track: str | None = None,
) -> Run:
    """Fit the method `slug` on `task`, judge it once on the test part, and keep the run in `out`.

    Args:
        task: a loaded task.
        knobs: values, or words from a command line, that override the preset's.
        bag: fit that many times, each with one fold of the training and validation rows held out,
            and average, where the task can be parted into folds.
        variant: what sets this run apart from others of its method, such as `tuned`.
        choosing: judge it, in validation, by samples that did not stop it, where the task keeps
            some apart: that score chooses between methods.
        time_limit: seconds of training; the best state so far is kept.
        track: trackers such as tensorboard, or none; None asks the environment's STACKWISE_TRACK.

    Raises:
        RunError: `out` cannot be used. KnobError: a knob is unknown or out of range.
    """
    of = card(slug)
    entry = of.entry("learner", task.problem, task=task.name)
    if of.lacking:
        raise NotInstalled(of.lacking)
    values = chosen_knobs(of, entry, preset, knobs or {})
    values |= shared_knobs(entry, knobs, random_state=seed, device=device, threads=threads)
    request = {
        "kind": "fit",
        "slug": slug,
        "knobs": values,
        "preset": preset,
        "seed": seed,
        "data": task.data_hash,
        "bag": bag,
        "choosing": choosing or None,
    } | taught_by(entry, values)
    folds = None if bag is None else foldable(task).folds(bag)
    out = Path(out)
    from stackwise.training.session import cost_clock
    from stackwise.training.tracking.trackers import chosen, tracked

    trackers = chosen(track) if processes.is_first() else ()
    processes.join(device)
    with opened(out, request, resume=resume) as held, computing_threads(threads) as used:
        if held.finished:
            return Run(out)
        record = new_record("fit", of, entry, values, preset, seed, used, command)
        record |= taught_by(entry, values)
        if processes.is_first():
            begin_learner(held, record, task, variant=variant, bag=bag)
        learner = entry.load()(**values)
        with tracked(trackers, out, record) as told:
            with run_session(out, resume, on_event, time_limit, told):
                apart = None
                if choosing and folds is None and isinstance(task, Chooses):
                    apart = judged_apart(task, learner, out)
                started = cost_clock()
                if folds is not None:
                    learner = foldable(task).bagged(learner, folds)
                else:
                    (task if apart is None else apart.task).fit(learner)
                seconds = cost_clock() - started
            seconds = getattr(learner, "seconds_", seconds)
            if processes.is_first():
                if on_event is not None:
                    on_event({"state": "concluding", "note": "scoring the held-out rows"})
                finish_learner(
                    out, record, learner, task, trained_seconds(Run(out), seconds), apart=apart
                )
        processes.wait()
    return Run(out)


def foldable(task: Any) -> Any:
    """The task, where its samples can be parted into folds.

    Raises:
        KnobError: they cannot.
    """
    if not isinstance(task, Foldable):
        raise KnobError(f"runs on a {task.name} cannot be bagged; leave out --bag")
    return task


def keep_learner(
    out: Path | str,
    slug: str,
    entry: Entry,
    learner: Any,
    task: Task,
    *,
    seed: int,
    variant: str,
    fit_seconds: float,
    command: str | None = None,
) -> Run:
    """Keep a learner that was fitted elsewhere as a finished run, judged like any other."""
    of = card(slug)
    out = Path(out)
    with computing_threads(None) as used:
        record = new_record("fit", of, entry, {}, None, seed, used, command)
        begin_learner(Held(out), record, task, variant=variant, bag=None)
        finish_learner(out, record, learner, task, fit_seconds)
    return Run(out)


@contextlib.contextmanager
def fitting(
    slug: str,
    task: Task,
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

    entry = card(slug).entry("learner", task.problem, task=task.name)
    values = entry.check(knobs)
    values |= shared_knobs(entry, knobs, random_state=seed, device=device, threads=threads)
    with computing_threads(threads):
        learner = entry.load()(**values)
        with session(on_event=on_event, time_limit=time_limit):
            task.fit(learner)
        yield learner
