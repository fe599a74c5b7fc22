"""Join the runs of a comparison into one ensemble, without training any of them again.

For each seed, regularized stacking (arXiv 2602.12469) learns on the validation predictions of that
seed's runs, out of fold where they are bagged, and is kept as a run that holds the learners that it
needs. Its own validation score is cross-validated: each row is predicted by meta-models that have
not learned from it.
"""

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stackwise import runs
from stackwise.errors import StackwiseError
from stackwise.files import plain, write_json
from stackwise.runs import Run
from stackwise.studies.answers import answers
from stackwise.studies.jobs import problem_of
from stackwise.studies.study import Study

SLUG = "regularized-meta-learning"
VARIANT = "all runs"
FEWEST_ROWS = 30
"""Fewer validation rows than this are too few for folds within folds."""


def name_of(seed: int) -> str:
    """The folder of a seed's ensemble."""
    return f"stacked-seed{seed}"


def join_runs(study: Study, task: Any, seeds: Sequence[int], command: str | None) -> dict[str, str]:
    """Make the ensemble of each seed that has none yet. Returns why some could not be made."""
    failures = {}
    for seed in seeds:
        out = study.folder / "runs" / name_of(seed)
        if (out / "run.json").is_file() and Run(out).finished:
            continue
        members = [
            run
            for run in study.runs
            if run.record["seed"] == seed and run.record.get("variant") != VARIANT
        ]
        problem = problem_of(functools.partial(_join, out, members, task, seed, command))
        if problem is not None:
            failures[name_of(seed)] = problem
    return failures


def _join(out: Path, members: Sequence[Run], task: Any, seed: int, command: str | None) -> None:
    from stackwise.combine.regularized_meta_learning import StackedPredictions
    from stackwise.tasks.table.stacked import Stacked

    if len(members) < 2:
        raise StackwiseError(f"an ensemble needs at least 2 finished runs, there is {len(members)}")
    target = members[0].predictions_on("validation")["target"].to_numpy()
    if len(target) < FEWEST_ROWS:
        raise StackwiseError(
            f"{len(target)} validation rows are too few to join runs on; give --bag or more rows"
        )
    known = np.ones(len(target), dtype=bool)
    if task.classes is not None:
        known = np.isin(target, task.classes)
    names = {run.folder.name.removesuffix(f"-seed{seed}"): run for run in members}
    found = {name: answers(run, "validation", task)[known] for name, run in names.items()}
    began = time.perf_counter()
    joined = StackedPredictions(
        problem="regression" if task.classes is None else "classification",
        classes=None if task.classes is None else list(task.classes), random_state=seed,
    ).fit(
        found, target[known], ordered="time" in task.options, few_is_fine=True
    )  # fmt: skip
    seconds = time.perf_counter() - began
    kept = {name: runs.load(names[name].folder) for name in joined.kept_}
    learner = Stacked(kept, joined, task.classes, _notes(joined, members))
    rows = members[0].predictions_on("validation")["row"].to_numpy()[known]
    _set_cross_validated(learner, rows, target[known])
    spent = sum(run.record["seconds"]["fit"] for run in members)
    runs.keep_learner(
        out, SLUG, learner, task, seed=seed, variant=VARIANT, fit_seconds=spent + seconds,
        command=command,
    )  # fmt: skip
    write_json(out / "weights.json", plain({"models": joined.pipeline_.weights_,
                                            "kept": joined.kept_,
                                            "dropped": joined.pipeline_.dropped_}))  # fmt: skip


def _notes(joined: Any, members: Sequence[Run]) -> list[str]:
    kept = ", ".join(joined.kept_)
    notes = [f"joins {len(joined.kept_)} of {len(members)} runs: {kept}"]
    return notes + list(joined.pipeline_.notes_)


def _set_cross_validated(learner: Any, rows: np.ndarray, target: np.ndarray) -> None:
    """Give the ensemble its answers for rows that its meta-models had not seen."""
    import pandas as pd

    found = learner.joined.pipeline_.oof_
    judged = np.isfinite(found.reshape(len(found), -1)).all(1)
    found = found[judged]
    learner.out_of_fold_rows_ = pd.DataFrame(index=rows[judged]), target[judged]
    by_class = hasattr(learner, "classes_")
    learner.out_of_fold_ = (learner.classes_[found.argmax(1)], found) if by_class else (found, None)
