"""Search a method's knobs with optuna: the space is what its knobs say, the judge validation data.

The first trial is the preset itself, so that tuning never loses what the default had. Trials are
kept in an SQLite file as they end. The sampler of a trial is seeded by how many ended before it,
so that a search that was killed goes on as if it had not been.
"""

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stackwise.catalog import Entry, card
from stackwise.errors import Interrupted, RunError, StackwiseError, StorageError, StudyError
from stackwise.files import read_json, write_json, writing
from stackwise.knobs import KnobSpec
from stackwise.progress import part_of
from stackwise.protocols import Chooses
from stackwise.runs import chosen_knobs, fitting
from stackwise.shapes import SCORE
from stackwise.studies.jobs import OnEvent, Shared

RECORD = {
    "finished": bool, "best": (dict, None),
    "trials": [{"knobs": dict, "validation": SCORE, "problem": (str, None)}],
}  # fmt: skip


@dataclass(frozen=True)
class SearchJob:
    """Search the knobs of one method with `trials` fits, the first of them the preset's own.

    Writes `tuning/<slug>.json`: the best knobs and every trial.
    """

    slug: str
    trials: int
    seed: int
    knobs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the progress calls it."""
        return f"{self.slug}-search"

    @property
    def weight(self) -> float:
        """Fits."""
        return float(self.trials)

    def do(self, shared: Shared, seconds: float | None, on_event: OnEvent | None) -> None:
        """Search, or go on searching."""
        path = shared.out / "tuning" / f"{self.slug}.json"
        record: dict[str, Any] = {"finished": False}
        with contextlib.suppress(RunError):  # the trials are in the database: it is made again
            record = read_json(path, RECORD)
        if not record["finished"]:
            search = _Search(self, shared, on_event)
            share = None if seconds is None else seconds / self.trials
            write_json(path, record := search.record())  # a kill may have come before it was
            while not record["finished"]:
                search.next_trial(share)
                write_json(path, record := search.record())
        if record["best"] is None:
            first = record["trials"][0]["problem"]
            raise StudyError(f"every trial of {self.slug} failed: {first}")


def best_knobs(out: Path, slug: str) -> dict[str, Any]:
    """The knobs that a finished search chose, over the preset's."""
    return dict(read_json(out / "tuning" / f"{slug}.json", {"best": dict})["best"])


def space(entry: Entry, fixed: Mapping[str, Any]) -> dict[str, KnobSpec]:
    """The knobs that tuning tries: those with a search range, but for those that are given."""
    return {
        name: spec
        for name, spec in entry.knobs.items()
        if spec.knob.search is not None and name not in fixed
    }


def suggest(trial: Any, spec: KnobSpec) -> Any:
    """A value of a knob from its search range: (low, high) of numbers, or choices."""
    search = spec.knob.search or ()
    numeric = len(search) == 2 and all(type(value) in (int, float) for value in search)
    if not numeric:
        return spec.parse(str(trial.suggest_categorical(spec.name, [str(v) for v in search])))
    low, high = search
    if "int" in spec.types and "float" not in spec.types:
        return trial.suggest_int(spec.name, int(low), int(high), log=spec.knob.log)
    return trial.suggest_float(spec.name, float(low), float(high), log=spec.knob.log)


class _Search:
    """The trials of one method."""

    def __init__(self, job: SearchJob, shared: Shared, on_event: OnEvent | None) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.optuna = optuna
        self.job, self.shared, self.on_event = job, shared, on_event
        of = card(job.slug)
        self.entry = of.entry("learner", shared.task.problem, task=shared.task.name)
        self.preset = chosen_knobs(of, self.entry, shared.settings.get("preset"), job.knobs)
        self.space = space(self.entry, job.knobs)
        path = shared.out / "tuning" / f"{job.slug}.db"
        self.study = self._opened(path)
        running = optuna.trial.TrialState.RUNNING
        for trial in self.study.get_trials(deepcopy=False, states=(running,)):
            # a kill cut it off: before its end, or before its end was told
            ended = "knobs" in trial.user_attrs
            self._tell(trial.number, trial.user_attrs["score"] if ended else None)

    def _opened(self, path: Path) -> Any:
        """The study that the file holds, or a new one in it."""
        try:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                return self.optuna.create_study(
                    storage=f"sqlite:///{path}", study_name=self.job.slug, load_if_exists=True,
                    direction="minimize" if self.shared.task.metric.mode == "min" else "maximize",
                )  # fmt: skip
        except StackwiseError:
            raise
        except Exception as error:
            raise RunError(
                f"{path} is damaged or of another format ({error}); remove it to search again"
            ) from error

    @property
    def ended(self) -> list[Any]:
        """The trials that came to an end, the preset's first; not those that a kill cut off."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if "knobs" in trial.user_attrs]

    def _tell(self, trial: Any, score: float | None) -> None:
        state = self.optuna.trial.TrialState
        self.study.tell(trial, score, state=state.FAIL if score is None else state.COMPLETE)

    def next_trial(self, seconds: float | None) -> None:
        """Do one trial and keep what it found."""
        number = len(self.ended)
        self.study.sampler = self.optuna.samplers.TPESampler(
            seed=self.job.seed * 100_003 + number, n_startup_trials=8
        )
        trial = self.study.ask()
        values = dict(self.preset)
        if number:
            values |= {name: suggest(trial, spec) for name, spec in self.space.items()}
        score, problem = None, None
        try:
            score = self._score(values, seconds, number)
        except (Interrupted, StorageError):
            raise
        except StackwiseError as error:
            problem = str(error)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        trial.set_user_attr("problem", problem)
        trial.set_user_attr("score", score)
        trial.set_user_attr("knobs", json.dumps(values))  # last: with it the trial has ended
        self._tell(trial, score)

    def _score(self, values: Mapping[str, Any], seconds: float | None, number: int) -> float:
        shared, job = self.shared, self.job

        def told(event: dict[str, Any]) -> None:
            if self.on_event is not None:
                self.on_event(part_of(event, number, job.trials, "trial"))

        # what stops a trial does not judge it
        task = shared.task
        stops, judges = task.parted() if isinstance(task, Chooses) else (task, task)
        with fitting(
            job.slug, stops, values, seed=job.seed, time_limit=seconds, on_event=told,
            device=shared.settings.get("device"), threads=shared.settings.get("threads"),
        ) as learner:  # fmt: skip
            scores = judges.judge(learner, "validation").scores
        score = float(scores[task.metric.name])
        if not math.isfinite(score):
            raise StudyError(f"the validation score is {score}")
        return score

    def record(self) -> dict[str, Any]:
        """The best knobs so far, and every trial."""
        trials = [
            {
                "knobs": json.loads(trial.user_attrs["knobs"]),
                "validation": trial.user_attrs["score"],
                "problem": trial.user_attrs["problem"],
            }
            for trial in self.ended
        ]
        scored = [trial for trial in trials if trial["validation"] is not None]
        better = min if self.shared.task.metric.mode == "min" else max
        best = better(scored, key=lambda trial: trial["validation"]) if scored else None
        return {
            "slug": self.job.slug,
            "finished": len(trials) >= self.job.trials,
            "seed": self.job.seed,
            "searched": list(self.space),
            "best": best["knobs"] if best else None,
            "validation": best["validation"] if best else None,
            "trials": trials,
        }
