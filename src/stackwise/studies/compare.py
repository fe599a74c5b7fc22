"""Compare methods on one task: search their knobs, fit them over seeds, join them, conclude."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stackwise import processes, runs
from stackwise.catalog import TaskCard
from stackwise.cluster import connected
from stackwise.errors import (
    KnobError,
    RunError,
    StudyError,
)
from stackwise.files import read_json, write_json
from stackwise.protocols import Chooses, Explains, MayLackTruth, Task
from stackwise.studies.choice import chosen as chosen_method
from stackwise.studies.contenders import Knobs, cheap_first, contenders, left_out, plan
from stackwise.studies.difference import OVER, chances_better, drawn_scores, intervals
from stackwise.studies.ensemble import join_runs, joining
from stackwise.studies.jobs import NOT_BEGUN, FitJob, Job, OnEvent, Shared
from stackwise.studies.limits import Limit, not_begun
from stackwise.studies.ranking import method_of, rank
from stackwise.studies.schedule import Schedule
from stackwise.studies.study import Study
from stackwise.studies.tuning import SearchJob, best_knobs
from stackwise.tasks import choose_task, open_task
from stackwise.training.tracking.trackers import chosen


def compare(
    source: Any,
    *,
    target: str | None = None,
    task: str | None = None,
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
    refit: bool = False,
    on: str | None = None,
    workers: int = 1,
    on_event: OnEvent | None = None,
    command: str | None = None,
    track: str | None = None,
) -> Study:
    """Fit every method that serves the task, and its baselines, on the same split.

    Args:
        source: a file, a frame, a data set's name, or a loaded task.
        target: what is predicted: the value of the option that the task marks as its role.
        task: which task the source is, where that is not plain.
        data_options: of the task's `load`.
        methods: slugs; by default every learner for this task and problem.
        seeds: how many seeds (0, 1, ...), or the seeds themselves.
        knobs: values by method, `{"tabm": {"k": 8}}`; those of `"*"` go to every method that has
            such a knob.
        time_limit: seconds for the whole study, with the ensemble, the importance and the page.
            Cheap methods come first, and what they leave is shared by the others; a seed gets what
            the seeds before it leave.
        tune: search each method's knobs with so many fits on validation data, and show it tuned
            beside its default.
        bag: fit each run that many times, over folds, and average; for all methods alike.
        stack: join all runs of a seed by regularized stacking.
        refit: keep time of a limit for fitting the winner again, which `stackwise.compare` does: no
            fit then takes longer than its repetition on all rows may.
        on: `ray` or `ray://host:port` for a cluster; None for this machine.
        workers: processes side by side on this machine. A run's thread count, not theirs, decides
            its numbers; side by side it is 1 unless `threads` says otherwise.
        track: trackers of every run, such as tensorboard, or none; None asks the environment.

    Returns:
        The finished study. A method that fails is named in `study.json`; the others go on.
    """
    began = time.monotonic()
    chosen(track)  # what is wrong with it is said once, before any run
    loaded = opened_source(source, target, task, data_options)
    if isinstance(loaded, MayLackTruth) and loaded.unscored:
        raise StudyError(f"a comparison needs scores: {loaded.unscored}")
    values = plan(loaded, methods, preset, knobs or {})
    seed_list = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not seed_list:
        raise KnobError("a comparison needs at least one seed, got 0")
    if tune is not None and tune < 1:
        raise KnobError(f"tune={tune} is no number of trials; give at least 1")
    if bag is not None:
        runs.foldable(loaded).folds(bag)  # refuses samples that cannot be parted so
    if stack:
        joining(loaded)
    if on is not None:
        connected(on)  # refuses a cluster that is not there before a folder is made
    fits = [
        FitJob(slug, seed, own, variant)
        for seed in seed_list
        for slug in cheap_first(loaded, values)
        for variant, own in contenders(loaded, slug, preset, values[slug]).items()
    ]
    searches = [SearchJob(slug, tune, seed_list[0], values[slug]) for slug in values if tune]
    tuned = [FitJob(s.slug, seed, variant="tuned") for seed in seed_list for s in searches]
    names = [job.name for job in (*fits, *tuned)]
    names += [f"stacked-seed{seed}" for seed in seed_list if stack]
    asked = {
        "kind": "compare",
        "data": loaded.data_hash,
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
    with runs.opened(out, asked, resume=resume) as held:
        if threads is None:
            threads = _threads_then(out) or (1 if workers > 1 or on else None)
        absent = left_out(loaded, methods)
        limit = Limit(time_limit, began, ensemble=stack, refit=refit)
        copies = loaded.choosing_folds if isinstance(loaded, Chooses) and bag is None else None
        short = limit.too_little(
            len(fits) // len(seed_list), bag or (copies or 0) + 1, max(workers, 1)
        )
        about = {"task": loaded.describe(), "command": command, "threads": threads}
        if processes.is_first():
            held.say("plan.json", asked | about | {"left_out": absent, "limit": short})
        settings = {"preset": preset, "device": device, "threads": threads, "command": command}
        shared = Shared(loaded, out, settings | {"bag": bag, "track": track, "choosing": True})
        work: list[Job] = [*searches, *fits, *tuned]
        whole = sum(job.weight for job in work)
        schedule = Schedule(workers, on, threads, limit.fits_end, limit.longest)
        failures = {}
        told = on_event or (lambda event: None)
        runs_planned = [{"run": job.name, "slug": job.slug, "weight": job.weight} for job in work]
        told({"state": "planned", "runs": runs_planned})
        if short:
            told({"state": "note", "note": short})
        if searches:
            searching = sum(job.weight for job in searches) / whole
            until = None
            if limit.fits_end is not None:
                until = time.monotonic() + (limit.fits_end - time.monotonic()) * searching
            failures = Schedule(workers, on, threads, until).run(searches, shared, on_event)
            found = {s.slug for s in searches if s.name not in failures}
            # the search's knobs hold the preset's values already
            tuned = [
                FitJob(job.slug, job.seed, best_knobs(out, job.slug), "tuned")
                for job in tuned
                if job.slug in found
            ]
        in_turn = sorted([*fits, *tuned], key=lambda job: seed_list.index(job.seed))
        failures |= schedule.run(in_turn, shared, on_event)
        study = Study(out)
        if not study.runs:
            first = next(iter(failures.values()), "nothing was run")
            raise RunError(f"no method could be fitted: {first}")
        if stack:
            told({"state": "concluding", "note": "joining the runs into an ensemble"})
            failures |= join_runs(study, loaded, seed_list, command, limit)
        if processes.is_first():
            told({"state": "concluding", "note": "ranking, and the winner's feature importance"})
            _conclude(study, loaded, failures, limit)
        processes.wait()
    return study


def opened_source(
    source: Any, value: str | None, asked: str | None, options: Mapping[str, Any] | None
) -> Task:
    """Load a source as the task that it is; a loaded task is given back.

    Args:
        value: what is predicted. asked: which task it is, where that is not plain.
    """
    if isinstance(source, Task):
        return source
    given = dict(options or {})
    kind = choose_task(source, given, asked=asked, named=value is not None)
    task: Task = open_task(kind.name, source, with_role(kind, given, value))
    return task


def with_role(kind: TaskCard, options: Mapping[str, Any], value: str | None) -> dict[str, Any]:
    """The options of a task, the one that names what is predicted among them.

    Raises:
        KnobError: a value is given and the task predicts nothing that has a name.
    """
    if value is None:
        return dict(options)
    if kind.role is None:
        raise KnobError(f"a {kind.name} has no target to name; leave out {value!r}")
    return {**options, kind.role: value}


def _threads_then(out: Path) -> int | None:
    """The threads that a study was begun with: resuming it elsewhere changes no number."""
    path = out / "plan.json"
    found: int | None = None
    if path.is_file():
        found = read_json(path, {"threads?": (int, None)}).get("threads")
    return found


def _conclude(study: Study, task: Task, failures: Mapping[str, str], limit: Limit) -> None:
    """Write ranking, winner and the winner's feature importance to study.json.

    A run whose files are damaged, or whose score is no number, is named among the failures, and the
    others go on.
    """
    failures = {**failures, **study.damaged, **study.unscored}
    finished = [run for run in study.runs if run.folder.name not in failures]
    if not finished:
        raise RunError(f"no run of {study.folder} can be read: {next(iter(failures.values()))}")
    table = rank(finished)
    metric, mode = task.metric.name, task.metric.mode
    best = min if mode == "min" else max
    choice = chosen_method(table, finished, task, seconds=limit.left(0.2))
    method = choice.method
    run = best(
        (run for run in finished if method_of(run.record) == method),
        key=lambda run: run.record["scores"]["validation"][metric],
    )
    importance: list[dict[str, Any]] = []
    if isinstance(task, Explains):
        given = {} if limit.seconds is None else {"seconds": limit.left()}
        try:
            importance = task.importance(runs.load(run.folder), **given)
        except RunError as error:
            _conclude(study, task, {**failures, run.folder.name: str(error)}, limit)
            return
    drawn = drawn_scores(finished, task, seconds=limit.left(0.3))
    table = rank(finished, intervals(drawn))
    chances = chances_better(drawn, method, mode)
    failed, skipped = not_begun(failures, NOT_BEGUN)
    record = {
        "format": 1,
        "metric": {"name": metric, "mode": mode},
        "interval_over": OVER,
        "ranking": [
            row | {"winner_better": chances.get(row["method"])} for row in table.to_dict("records")
        ],
        "winner": {
            "slug": run.record["slug"],
            "method": method,
            "folder": str(run.folder.relative_to(study.folder)),
            "best_in_validation": choice.best,
            "difference": choice.difference,
            "standard_error": choice.error,
        },
        "failures": failed,
        "not_begun": skipped,
        "importance": importance,
    }
    write_json(study.folder / "study.json", record)
