"""Join the runs of a comparison into one ensemble.

For each seed, the method of the catalog that joins runs learns on the validation predictions of
that seed's runs, of rows that stopped none of them, and is kept as a run that holds the learners
that it needs. Its own validation score is cross-validated over the same rows.
"""

import functools
import time
from collections.abc import Sequence
from pathlib import Path

from stackwise import runs
from stackwise.catalog import Card, Entry, cards
from stackwise.errors import KnobError, StackwiseError
from stackwise.protocols import Task
from stackwise.runs import Run
from stackwise.studies.jobs import NOT_BEGUN, problem_of
from stackwise.studies.limits import Limit
from stackwise.studies.study import Study

VARIANT = "all runs"


def name_of(seed: int) -> str:
    """The folder of a seed's ensemble."""
    return f"stacked-seed{seed}"


def joining(task: Task) -> tuple[Card, Entry]:
    """The method that joins runs on this task.

    Raises:
        KnobError: there is none.
    """
    for of in cards().values():
        for entry in of.entries:
            if entry.joins and task.name in entry.tasks:
                return of, entry
    raise KnobError(f"runs on a {task.name} cannot be stacked; leave out --stack")


def join_runs(
    study: Study, task: Task, seeds: Sequence[int], command: str | None, limit: Limit
) -> dict[str, str]:
    """Make the ensemble of each seed that has none yet. Returns why some could not be made.

    One that takes as long as the one before is not begun where the limit does not leave that.
    """
    failures = {}
    took = 0.0
    for seed in seeds:
        out = study.folder / "runs" / name_of(seed)
        if (out / "run.json").is_file() and Run(out).finished:
            continue
        members = [
            run
            for run in study.runs
            if run.record["seed"] == seed and run.record.get("variant") != VARIANT
        ]
        left = limit.left()
        if left is not None and left <= took:
            failures[name_of(seed)] = NOT_BEGUN
            continue
        began = time.perf_counter()
        problem = problem_of(
            functools.partial(_join, out, members, task, seed, command, left), study.folder
        )
        took = time.perf_counter() - began
        if problem is not None:
            failures[name_of(seed)] = problem
    return failures


def _join(
    out: Path, members: Sequence[Run], task: Task, seed: int, command: str | None,
    left: float | None,
) -> None:  # fmt: skip
    if len(members) < 2:
        raise StackwiseError(f"an ensemble needs at least 2 finished runs, there is {len(members)}")
    of, entry = joining(task)
    named = {run.folder.name.removesuffix(f"-seed{seed}"): run for run in members}
    began = time.perf_counter()
    learner = entry.load().join(task, named, seed=seed, seconds=left)
    seconds = time.perf_counter() - began
    spent = sum(run.record["seconds"]["fit"] for run in members)
    runs.keep_learner(
        out, of.slug, entry, learner, task, seed=seed, variant=VARIANT,
        fit_seconds=spent + seconds, command=command,
    )  # fmt: skip
