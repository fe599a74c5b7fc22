"""Compare methods on one task: search their knobs, fit them over seeds, join them, conclude."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stackwise import processes, runs
from stackwise.catalog import Card, cards
from stackwise.errors import KnobError, NotInstalled, RunError, StudyError, UnknownName, nearest
from stackwise.files import read_json, write_json
from stackwise.studies.difference import chances_better
from stackwise.studies.jobs import FitJob, Job, OnEvent, Shared
from stackwise.studies.ranking import method_of
from stackwise.studies.schedule import Schedule
from stackwise.studies.study import Study
from stackwise.studies.tuning import SearchJob, best_knobs

Knobs = Mapping[str, Mapping[str, Any]]
EVERY = "*"
"""Stands for every method that has the knob."""


def compare(
    source: Any,
    *,
    target: str | None = None,
    out: Path | str,
    methods: Iterable[str] | None = None,
    seeds: int | Iterable[int] = 3,
    preset: str | None = None,
    knobs: Knobs | None = None,
    data_options: Mapping[str, Any] | None = None,
    resume: bool = False,
    device: str | None = None,
    threads: int | None = None,
    time_limit: float | None = None,
    tune: int | None = None,
    bag: int | None = None,
    stack: bool = False,
    on: str | None = None,
    workers: int = 1,
    on_event: OnEvent | None = None,
    command: str | None = None,
    track: str | None = None,
) -> Study:
    """Fit every method that serves the task, and its baselines, on the same split.

    Args:
        source: a file, a frame, a data set's name, or a loaded task.
        methods: slugs; by default every learner for this task and problem.
        seeds: how many seeds (0, 1, ...), or the seeds themselves.
        knobs: values by method, `{"tabm": {"k": 8}}`; those of `"*"` go to every method that has
            such a knob.
        time_limit: seconds for the whole study; each run gets an equal share of what is left.
        tune: search each method's knobs with so many fits on validation data, and show it tuned
            beside its default.
        bag: fit each run that many times, over folds, and average; for all methods alike.
        stack: join all runs of a seed by regularized stacking, without training them again.
        on: `ray` or `ray://host:port` for a cluster; None for this machine.
        workers: processes side by side on this machine. A run's thread count, not theirs, decides
            its numbers; side by side it is 1 unless `threads` says otherwise.
        track: tensorboard, mlflow or none, of every run; None asks the environment.

    Returns:
        The finished study. A method that fails is named in `study.json`; the others go on.
    """
    from stackwise.tasks.table.task import TableTask
    from stackwise.training.trackers import chosen

    chosen(track)  # what is wrong with it is said once, before any run
    task = source
    if not hasattr(source, "part"):
        task = TableTask.load(source, target=target, **(data_options or {}))
    values = plan(task, methods, preset, knobs or {})
    seed_list = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not seed_list:
        raise KnobError("a comparison needs at least one seed, got 0")
    if tune is not None and tune < 1:
        raise KnobError(f"tune={tune} is no number of trials; give at least 1")
    if bag is not None and not hasattr(task, "folds"):
        raise KnobError(f"runs on a {task.name} cannot be bagged; leave out --bag")
    if bag is not None:
        task.folds(bag)  # refuses a table that cannot be bagged
    if stack and not hasattr(task, "folds"):
        raise KnobError(f"runs on a {task.name} cannot be stacked; leave out --stack")
    fits = [job for seed in seed_list for slug in values for job in _fits(slug, seed, values[slug])]
    searches = [SearchJob(slug, tune, seed_list[0], values[slug]) for slug in values if tune]
    tuned = [FitJob(s.slug, seed, variant="tuned") for seed in seed_list for s in searches]
    names = [job.name for job in (*fits, *tuned)]
    names += [f"stacked-seed{seed}" for seed in seed_list if stack]
    asked = {
        "kind": "compare",
        "data": task.data_hash,
        "methods": list(values),
        "seeds": seed_list,
        "preset": preset,
        "knobs": values,
        "tune": tune,
        "bag": bag,
        "stack": stack or None,
        "runs": names,
    }
    out = Path(out)
    if processes.count() > 1 and (workers > 1 or on or tune or stack):
        raise StudyError(
            "started by a launcher a comparison spreads each fit over the processes, one after the "
            "other: leave out --workers, --on, --tune and --stack"
        )
    processes.join(device)
    with runs.opened(out, asked, resume=resume):
        if threads is None:
            threads = _threads_then(out) or (1 if workers > 1 or on else None)
        left_out = _left_out(task, methods)
        about = {"task": task.describe(), "command": command, "threads": threads}
        if processes.is_first():
            write_json(out / "plan.json", asked | about | {"left_out": left_out})
        settings = {"preset": preset, "device": device, "threads": threads, "command": command}
        shared = Shared(task, out, settings | {"bag": bag, "track": track})
        deadline = None if time_limit is None else time.time() + time_limit
        work: list[Job] = [*searches, *fits, *tuned]
        whole = sum(job.weight for job in work)
        schedule = Schedule(workers, on, threads, deadline)
        failures = {}
        if searches:
            searching = sum(job.weight for job in searches) / whole
            until = None if time_limit is None else time.time() + time_limit * searching
            failures = Schedule(workers, on, threads, until).run(searches, shared, on_event)
            found = {s.slug for s in searches if s.name not in failures}
            # the search's knobs hold the preset's values already
            tuned = [
                FitJob(job.slug, job.seed, best_knobs(out, job.slug), "tuned")
                for job in tuned
                if job.slug in found
            ]
        failures |= schedule.run([*fits, *tuned], shared, on_event)
        study = Study(out)
        if not study.runs:
            first = next(iter(failures.values()), "nothing was run")
            raise RunError(f"no method could be fitted: {first}")
        if stack:
            from stackwise.studies.stacking import join_runs

            failures |= join_runs(study, task, seed_list, command)
        if processes.is_first():
            from stackwise.report import build

            _conclude(study, task, failures)
            build([out], out / "report.html")
        processes.wait()
    return study


def _fits(slug: str, seed: int, knobs: Mapping[str, Any]) -> list[FitJob]:
    """The fits of a method with one seed: one, or one a variant where its card has several."""
    variants = cards()[slug].variants
    if not variants:
        return [FitJob(slug, seed, knobs)]
    return [FitJob(slug, seed, {**knobs, **own}, name) for name, own in variants.items()]


def _threads_then(out: Path) -> int | None:
    """The threads that a study was begun with: resuming it elsewhere changes no number."""
    path = out / "plan.json"
    found = read_json(path).get("threads") if path.is_file() else None
    return None if found is None else int(found)


def _serving(task: Any, methods: Iterable[str] | None) -> dict[str, Card]:
    """The cards to compare: those named, or every learner that serves the task and its problem."""
    serving = _all_serving(task)
    if methods is None:
        return {slug: of for slug, of in serving.items() if _why_not(of, task) is None}
    picked = {}
    for slug in methods:
        if slug not in serving:
            raise UnknownName(
                f"no method {slug!r} serves {task.problem} on a {task.name}."
                f"{nearest(slug, serving)}"
            )
        lacking = serving[slug].lacking
        if lacking:
            raise NotInstalled(lacking)
        picked[slug] = serving[slug]
    return picked


def _all_serving(task: Any) -> dict[str, Card]:
    serving = {}
    for slug, of in cards().items():
        if "learner" in of.kinds and task.name in of.tasks:
            try:
                of.entry("learner", task.problem)
            except UnknownName:
                continue
            serving[slug] = of
    return serving


def _left_out(task: Any, methods: Iterable[str] | None) -> list[str]:
    """Sentences about the methods that take no part by themselves."""
    if methods is not None:
        return []
    reasons = (_why_not(of, task) for of in _all_serving(task).values())
    return [reason for reason in reasons if reason is not None]


def _why_not(of: Card, task: Any) -> str | None:
    """Why a method takes no part unless it is named: not installed, or made for smaller tables."""
    return of.lacking or of.too_many(task.describe()["rows"]["train"])


def plan(
    task: Any, methods: Iterable[str] | None, preset: str | None, knobs: Knobs
) -> dict[str, dict[str, Any]]:
    """The methods that a comparison would fit, each with its own knobs, checked."""
    chosen = _serving(task, methods)
    for slug in knobs:
        if slug not in (*chosen, EVERY):
            raise KnobError(f"{slug!r} takes no part in this comparison.{nearest(slug, chosen)}")
    known = {name for of in chosen.values() for name in of.entry("learner", task.problem).knobs}
    for name in knobs.get(EVERY, {}):
        if name not in known:
            raise KnobError(
                f"no method of this comparison has a knob {name!r}.{nearest(name, known)}"
            )
    values = {}
    for slug, of in chosen.items():
        entry = of.entry("learner", task.problem)
        shared = {n: v for n, v in knobs.get(EVERY, {}).items() if n in entry.knobs}
        own = {**shared, **knobs.get(slug, {})}
        runs.chosen_knobs(of, entry, preset, own)
        values[slug] = entry.check(own, texts=True)
    return values


def _conclude(study: Study, task: Any, failures: Mapping[str, str]) -> None:
    """Write ranking, winner and the winner's feature importance to study.json."""
    table = study.ranking()
    metric, mode = task.metric.name, task.metric.mode
    best = min if mode == "min" else max
    leading = table.set_index("method")["validation"]
    method = leading.idxmin() if mode == "min" else leading.idxmax()
    run = best(
        (run for run in study.runs if method_of(run.record) == method),
        key=lambda run: run.record["scores"]["validation"][metric],
    )
    chances = chances_better(study.runs, task, method)
    record = {
        "format": 1,
        "metric": {"name": metric, "mode": mode},
        "ranking": [
            row | {"winner_better": chances.get(row["method"])} for row in table.to_dict("records")
        ],
        "winner": {
            "slug": run.record["slug"],
            "method": method,
            "folder": str(run.folder.relative_to(study.folder)),
        },
        "failures": dict(failures),
        "importance": task.importance(runs.load(run.folder)),
    }
    write_json(study.folder / "study.json", record)
