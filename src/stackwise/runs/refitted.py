"""Fit a finished run's method again, on every sample: the last step, once the choice was made.

Nothing is held out then, so that nothing says when to stop: the budget is what the run's kept state
took. The new run has no score of its own. It keeps those of the run that it repeats, and that run's
answers on validation samples, from which thresholds and intervals are learned.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stackwise.catalog import card
from stackwise.errors import RunError
from stackwise.files import replacing
from stackwise.protocols import Foldable, Task, Whole
from stackwise.runs.fit import foldable
from stackwise.runs.folder import OnEvent, Run, load
from stackwise.runs.holding import opened
from stackwise.runs.record import begin_learner, computing_threads, finish, new_record, run_session


def refit_run(
    run: Run,
    task: Task,
    *,
    out: Path | str,
    resume: bool = False,
    time_limit: float | None = None,
    on_event: OnEvent | None = None,
    command: str | None = None,
) -> Run:
    """Fit what a run fitted again on all samples of its task, and keep it as a run in `out`.

    A bagged run is bagged again, over folds of all samples, and stops early by them.

    Args:
        task: the task of the run, as it was loaded for it.
        time_limit: seconds of training; the state at its end is kept, and a note says so.

    Raises:
        RunError: the run is not finished, was fitted on other data, is an ensemble of other runs,
            or its task cannot give all its samples.
    """
    from stackwise.training.session import cost_clock

    record = run.record
    of = card(record["slug"])
    entry = of.entry("learner", task.problem, task=task.name)
    if not isinstance(task, Whole):
        raise RunError(f"a {task.name} cannot be fitted again on all of it; leave out --refit")
    if not run.finished or record["data"]["hash"] != task.data_hash:
        raise RunError(f"{run.folder} is no finished run on these data")
    if record["entry"] != entry.name:
        raise RunError(f"{run.folder} holds a {record['entry']} of other runs: it is kept as it is")
    fitted = load(run.folder)
    values = record["knobs"] | ({} if record.get("bag") else _without_stopping(entry, fitted))
    request = {"kind": "refit", "slug": of.slug, "knobs": values, "data": task.data_hash,
               "of": run.folder.name}  # fmt: skip
    out = Path(out)
    with opened(out, request, resume=resume) as held, computing_threads(record["threads"]) as used:
        if held.finished:
            return Run(out)
        made = new_record("fit", of, entry, values, record["preset"], record["seed"], used, command)
        whole = task.whole()
        begin_learner(held, made, whole, variant=record.get("variant"), bag=record.get("bag"))
        learner = entry.load()(**values)
        with run_session(out, resume, on_event, time_limit, ()):
            began = cost_clock()
            if record.get("bag"):
                assert isinstance(whole, Foldable)
                learner = foldable(whole).bagged(learner, whole.folds(record["bag"]))
            else:
                whole.fit(learner)
            seconds = cost_clock() - began
        learner.save(out)
        _keep(out, made, run, record, learner, seconds)
    return Run(out)


def _without_stopping(entry: Any, fitted: Any) -> dict[str, Any]:
    """The knobs of a fit that holds nothing out: as long as the kept state took."""
    none = {"validation": 0.0, "min_steps": 0}
    changed: dict[str, Any] = {name: value for name, value in none.items() if name in entry.knobs}
    took = fitted.learned_for()
    if entry.budget is not None and took is not None:
        changed[entry.budget] = took
    return changed


def _keep(
    out: Path, made: dict[str, Any], run: Run, then: Mapping[str, Any], learner: Any, seconds: float
) -> None:
    """Keep the new learner beside the scores and validation answers of the run that it repeats."""
    for part in ("validation", "test"):
        name = f"{part}_predictions.parquet"
        with replacing(out / name) as beside:
            shutil.copyfile(run.folder / name, beside)
    made["scores"], made["metric"] = then["scores"], then["metric"]
    made["seconds"] = then["seconds"] | {"fit": seconds}
    made["notes"] = [
        *getattr(learner, "notes_", []),
        f"fitted again on all rows; the scores are those of {run.folder.name}, which held some out",
    ]
    made["refit_of"] = run.folder.name
    finish(out, made)
