"""A study: many runs under one plan, in one folder, that a kill does not lose.

    plan.json                 what was asked for
    runs/<slug>-seed<seed>/   one run each
    study.json                ranking, winner, failures
    report.html               the page to show

`compare` is the study that most users want: every method that serves the task and the baselines,
on the same split, with the same budget, over several seeds. The seed of a run sets its weights
and its batches; the split is that of the task and the same for all. The winner is chosen by the
validation score; the test part only says how good each one is.
"""

import functools
import math
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise import runs
from stackwise.catalog import Card, cards
from stackwise.errors import Interrupted, KnobError, RunError, StackwiseError, UnknownName, nearest
from stackwise.files import read_json, write_json
from stackwise.runs import Run

if TYPE_CHECKING:
    import pandas as pd

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Study:
    """A study's folder, read when it is asked."""

    folder: Path

    @property
    def plan(self) -> dict[str, Any]:
        """What was asked for."""
        return dict(read_json(self.folder / "plan.json"))

    @property
    def record(self) -> dict[str, Any]:
        """Ranking, winner and failures, once the study is finished."""
        return dict(read_json(self.folder / "study.json"))

    @property
    def runs(self) -> list[Run]:
        """The finished runs, in the order of the plan."""
        folders = [self.folder / "runs" / name for name in self.plan["runs"]]
        found = [Run(folder) for folder in folders]
        return [run for run in found if run.finished]

    @property
    def winner(self) -> Run:
        """The run to keep: of the best method by validation, its best seed by validation."""
        return Run(self.folder / self.record["winner"]["folder"])

    def ranking(self) -> "pd.DataFrame":
        """One row a method, best first; see `rank`."""
        return rank(self.runs)

    def load(self) -> Any:
        """The winner, fitted."""
        return runs.load(self.winner.folder)


def compare(
    source: Any,
    *,
    target: str | None = None,
    out: Path | str,
    methods: Iterable[str] | None = None,
    seeds: int | Iterable[int] = 3,
    preset: str | None = None,
    knobs: Mapping[str, Mapping[str, Any]] | None = None,
    data_options: Mapping[str, Any] | None = None,
    resume: bool = False,
    device: str | None = None,
    threads: int | None = None,
    time_limit: float | None = None,
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
        knobs: values by method, `{"tabm": {"k": 8}}`.
        time_limit: seconds for the whole study; each run gets an equal share of what is left.
        workers: processes side by side. A run's thread count, not theirs, decides its numbers.
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
    jobs = [(slug, seed) for seed in seed_list for slug in values]
    asked = {
        "kind": "compare",
        "data": task.data_hash,
        "methods": list(values),
        "seeds": seed_list,
        "preset": preset,
        "knobs": values,
        "runs": [_name(slug, seed) for slug, seed in jobs],
    }
    out = Path(out)
    shared = {"preset": preset, "device": device, "threads": threads, "command": command}
    shared["track"] = track
    with runs.opened(out, asked, resume=resume):
        write_json(out / "plan.json", asked | {"task": task.describe(), "command": command})
        deadline = None if time_limit is None else time.monotonic() + time_limit
        fit = _Fit(task, out, values, shared, deadline, len(jobs))
        failures = fit.side_by_side(jobs, workers) if workers > 1 else fit.in_turn(jobs, on_event)
        study = Study(out)
        if not study.runs:
            first = next(iter(failures.values()), "nothing was run")
            raise RunError(f"no method could be fitted: {first}")
        _conclude(study, task, failures)
        from stackwise.report import build

        build([out], out / "report.html")
    return study


def _name(slug: str, seed: int) -> str:
    return f"{slug}-seed{seed}"


def _serving(task: Any, methods: Iterable[str] | None) -> dict[str, Card]:
    """The cards to compare: those named, or every learner that serves the task and its problem."""
    known = cards()
    serving = {}
    for slug, of in known.items():
        if "learner" in of.kinds and task.name in of.tasks:
            try:
                of.entry("learner", task.problem)
            except UnknownName:
                continue
            serving[slug] = of
    if methods is None:
        return serving
    picked = {}
    for slug in methods:
        if slug not in serving:
            raise UnknownName(
                f"no method {slug!r} serves {task.problem} on a {task.name}."
                f"{nearest(slug, serving)}"
            )
        picked[slug] = serving[slug]
    return picked


def plan(
    task: Any,
    methods: Iterable[str] | None,
    preset: str | None,
    knobs: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """The methods that a comparison would fit, each with its own knobs, checked."""
    chosen = _serving(task, methods)
    for slug in knobs:
        if slug not in chosen:
            raise KnobError(f"{slug!r} takes no part in this comparison.{nearest(slug, chosen)}")
    values = {}
    for slug, of in chosen.items():
        entry = of.entry("learner", task.problem)
        runs.chosen_knobs(of, entry, preset, {})
        values[slug] = entry.check(knobs.get(slug, {}), texts=True)
    return values


@dataclass
class _Fit:
    """Fits the jobs of a study, one after the other or side by side."""

    task: Any
    out: Path
    knobs: Mapping[str, Mapping[str, Any]]
    shared: Mapping[str, Any]
    deadline: float | None
    total: int

    def one(self, slug: str, seed: int, left: int, on_event: OnEvent | None) -> str | None:
        """Fit one job. Returns None, or why it failed."""
        share = None
        if self.deadline is not None:
            share = max((self.deadline - time.monotonic()) / max(left, 1), 1.0)
        try:
            runs.fit_run(
                slug,
                self.task,
                out=self.out / "runs" / _name(slug, seed),
                knobs=self.knobs[slug],
                seed=seed,
                resume=True,
                time_limit=share,
                on_event=on_event,
                **self.shared,
            )
        except Interrupted:
            raise
        except StackwiseError as error:
            return str(error)
        except Exception as error:  # a broken method must not take the others with it
            place = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        return None

    def in_turn(self, jobs: list[tuple[str, int]], on_event: OnEvent | None) -> dict[str, str]:
        """One after the other, in this process."""
        tell = on_event or (lambda event: None)
        failures = {}
        for index, (slug, seed) in enumerate(jobs):
            about = {"run": _name(slug, seed), "slug": slug, "seed": seed, "index": index}
            about["total"] = self.total
            tell(about | {"state": "started"})
            problem = self.one(
                slug,
                seed,
                self.total - index,
                functools.partial(_training, tell, about),
            )
            if problem:
                failures[_name(slug, seed)] = problem
            tell(about | {"state": "failed" if problem else "finished", "problem": problem})
        return failures

    def side_by_side(self, jobs: list[tuple[str, int]], workers: int) -> dict[str, str]:
        """On a local pool of processes. A run's numbers do not depend on where it ran."""
        from joblib import Parallel, delayed

        rounds = math.ceil(len(jobs) / workers)
        problems = Parallel(n_jobs=workers, backend="loky")(
            delayed(self.one)(slug, seed, rounds - index // workers, None)
            for index, (slug, seed) in enumerate(jobs)
        )
        return {
            _name(*job): problem
            for job, problem in zip(jobs, problems, strict=True)
            if problem is not None
        }


def _training(tell: OnEvent, about: dict[str, Any], event: dict[str, Any]) -> None:
    tell(about | {"state": "training"} | event)


def rank(finished: Iterable[Run]) -> "pd.DataFrame":
    """Rank methods over seeds.

    Returns:
        One row a method, best mean test score first: `mean`, `low` and `high` (95 % interval of
        the mean, Student's t over seeds; empty with one seed), `rank` (mean over seeds),
        `validation` (mean), `fit_seconds`, `predict_ms` (per 1000 rows), `size_mb`, `seeds`.
    """
    import pandas as pd
    from scipy.special import stdtrit

    records = [run.record for run in finished]
    metric, mode = records[0]["metric"]["name"], records[0]["metric"]["mode"]
    scores = pd.DataFrame(
        {
            "method": [record["slug"] for record in records],
            "seed": [record["seed"] for record in records],
            "test": [record["scores"]["test"][metric] for record in records],
            "validation": [record["scores"]["validation"][metric] for record in records],
            "fit_seconds": [record["seconds"]["fit"] for record in records],
            "predict_ms": [record["seconds"]["predict_per_1000_rows"] * 1e3 for record in records],
            "size_mb": [record["size_bytes"] / 1e6 for record in records],
        }
    ).astype({"test": float, "validation": float})
    scores["rank"] = scores.groupby("seed")["test"].rank(ascending=mode == "min")
    rows = []
    for method, part in scores.groupby("method"):
        count = len(part)
        mean = part["test"].mean()
        reach = (
            stdtrit(count - 1, 0.975) * part["test"].std(ddof=1) / math.sqrt(count)
            if count > 1
            else math.nan
        )
        rows.append(
            {
                "method": method,
                "mean": mean,
                "low": mean - reach,
                "high": mean + reach,
                "rank": part["rank"].mean(),
                "validation": part["validation"].mean(),
                "fit_seconds": part["fit_seconds"].median(),
                "predict_ms": part["predict_ms"].median(),
                "size_mb": part["size_mb"].median(),
                "seeds": count,
            }
        )
    table = pd.DataFrame(rows).sort_values("mean", ascending=mode == "min")
    return table.reset_index(drop=True)


def _conclude(study: Study, task: Any, failures: Mapping[str, str]) -> None:
    """Write ranking, winner and the winner's feature importance to study.json."""
    table = study.ranking()
    metric, mode = task.metric.name, task.metric.mode
    best = min if mode == "min" else max
    leading = table.set_index("method")["validation"]
    slug = leading.idxmin() if mode == "min" else leading.idxmax()
    run = best(
        (run for run in study.runs if run.record["slug"] == slug),
        key=lambda run: run.record["scores"]["validation"][metric],
    )
    record = {
        "format": 1,
        "metric": {"name": metric, "mode": mode},
        "ranking": table.to_dict("records"),
        "winner": {"slug": slug, "folder": str(run.folder.relative_to(study.folder))},
        "failures": dict(failures),
        "importance": permutation_importance(runs.load(run.folder), task),
    }
    write_json(study.folder / "study.json", record)


def permutation_importance(
    learner: Any, task: Any, *, rows: int = 1000, repeats: int = 3, seed: int = 0
) -> list[dict[str, Any]]:
    """How much worse the score gets when a column is shuffled, on validation rows.

    Returns:
        `column`, `mean` and `std` over repeats, in units of the metric; largest first. Positive
        means that the model uses the column.
    """
    import numpy as np

    from stackwise.tasks.table.predictions import predict_once

    X, y = task.part("validation")
    generator = np.random.default_rng(seed)
    picked = generator.permutation(len(X))[:rows]
    X, y = X.iloc[picked].reset_index(drop=True), y[picked]
    sign = 1.0 if task.metric.mode == "min" else -1.0

    def worse(frame: Any) -> float:
        return sign * float(task.score(y, *predict_once(learner, frame))[task.metric.name])

    base = worse(X)
    found = []
    for column in X.columns:
        drops = []
        for _ in range(repeats):
            shuffled = X.copy()
            shuffled[column] = X[column].to_numpy()[generator.permutation(len(X))]
            drops.append(worse(shuffled) - base)
        found.append(
            {"column": str(column), "mean": float(np.mean(drops)), "std": float(np.std(drops))}
        )
    return sorted(found, key=lambda item: -item["mean"])
