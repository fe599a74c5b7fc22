"""A time limit covers everything, is shared soundly, and is said where it cuts."""

import time

import numpy as np
import pandas as pd
import pytest

from stackwise.build.skan import SKANRegressor
from stackwise.errors import OutOfTime
from stackwise.report import compare
from stackwise.report.sections import section
from stackwise.runs import Run, fit_run
from stackwise.studies.jobs import NOT_BEGUN, FitJob, problem_of
from stackwise.studies.limits import Limit
from stackwise.studies.schedule import Schedule
from stackwise.tasks.table.baselines import (
    GradientBoostingRegressor,
    LightGBMRegressor,
    LinearClassifier,
    LinearRegressor,
)
from stackwise.tasks.table.importance import permutation_importance
from stackwise.tasks.table.task import TableTask
from stackwise.training.session import session


@pytest.fixture(scope="module")
def frame():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 5))
    made = pd.DataFrame(x, columns=list("abcde"))
    return made.assign(y=x[:, 0] * x[:, 1] + generator.normal(size=400))


@pytest.fixture(scope="module")
def task(frame):
    return TableTask.load(frame, target="y")


def test_a_seed_may_take_all_that_is_left_and_the_next_has_what_remains():
    jobs = [FitJob("mlp", 0), FitJob("tabm", 0), FitJob("mlp", 1), FitJob("tabm", 1)]
    schedule = Schedule(deadline=time.monotonic() + 40)
    assert schedule.share(jobs, 0) == pytest.approx(20, abs=0.5)
    assert schedule.share(jobs, 1) == pytest.approx(40, abs=0.5)
    over = Schedule(deadline=time.monotonic() - 1)
    assert not over.too_late(jobs, 0)
    assert over.too_late(jobs, 2)


def test_cheap_methods_come_first_and_all_of_a_seed_before_the_next(task, tmp_path):
    events = []
    tiny = {"max_epochs": 1}
    study = compare(
        task, out=tmp_path / "s", methods=["tabm", "mlp", "lightgbm", "linear"], seeds=2, threads=1,
        knobs={"tabm": tiny | {"k": 2, "width": 8}, "mlp": tiny | {"width": 8},
               "lightgbm": {"max_trees": 3}},
        on_event=events.append,
    )  # fmt: skip
    begun = [event["run"] for event in events if event["state"] == "started"]
    assert [name.split("-seed")[1] for name in begun] == ["0"] * 6 + ["1"] * 6
    first = [name.removesuffix("-seed0") for name in begun[:6]]
    assert first == ["lightgbm", "lightgbm-extra-trees", "linear", "mlp", "tabm", "tabm-piecewise"]
    assert not any(row["cut"] for row in study.record["ranking"])


def test_a_limit_holds_for_the_whole_is_marked_and_a_resume_goes_on(task, tmp_path):
    events = []
    asked = {"methods": ["linear", "mlp"], "seeds": 3, "threads": 1, "out": tmp_path / "s",
             "knobs": {"mlp": {"max_epochs": 100_000, "patience": None}}}  # fmt: skip
    began = time.monotonic()
    study = compare(task, time_limit=10, on_event=events.append, **asked)
    assert time.monotonic() - began < 25
    assert "is short for 2 contenders" in next(e["note"] for e in events if e["state"] == "note")
    assert "mlp" in {row["method"] for row in study.record["ranking"] if row["cut"]}
    left_out = study.record["not_begun"]
    assert "linear-seed2" in left_out and "mlp-seed0" not in left_out
    assert not study.record["failures"]
    page = (study.folder / "report.html").read_text()
    assert "(cut by the time limit)" in page and "left no time for" in page
    assert "is short for" in " ".join(section(study.folder)["asides"])
    before = {run.folder.name for run in study.runs}
    again = compare(task, time_limit=3, resume=True, **asked)
    assert before < {run.folder.name for run in again.runs}


def test_a_limit_says_beforehand_that_it_allows_too_little():
    assert Limit(None, time.monotonic()).too_little(9, 6, 1) is None
    assert Limit(3600, time.monotonic()).too_little(9, 6, 1) is None
    said = Limit(60, time.monotonic()).too_little(9, 6, 1)
    assert "short for 9 contenders, each fitted 6 times" in said
    assert "would allow for one seed" in said


def test_what_is_kept_for_a_refit_is_enough_for_the_longest_fit():
    began = time.monotonic()
    without, kept = Limit(100, began), Limit(100, began, refit=True)
    assert without.longest is None and Limit(None, began, refit=True).longest is None
    assert without.fits_end - kept.fits_end == pytest.approx(35)
    assert without.left() - kept.left() == pytest.approx(35, abs=0.1)  # importance leaves it alone
    assert kept.longest <= 0.6 * 35
    jobs = [FitJob("linear", 0), FitJob("mlp", 0)]
    schedule = Schedule(deadline=kept.fits_end, longest=kept.longest)
    assert schedule.share(jobs, 1) == pytest.approx(21)


@pytest.mark.slow
def test_a_winner_that_takes_all_that_it_may_is_fitted_again_within_the_limit(frame, tmp_path):
    only = {"methods": ["mlp"], "seeds": 1, "threads": 1}
    compare(frame, "y", out=tmp_path / "warm", knobs={"mlp": {"max_epochs": 1}}, **only)  # imports
    began = time.monotonic()
    study = compare(
        frame, "y", out=tmp_path / "s", refit=True, time_limit=12, **only,
        knobs={"mlp": {"max_epochs": 100_000, "patience": None, "width": 16}},
    )  # fmt: skip
    assert study.winner.record["notes"][0].startswith("the time limit ended training")
    assert study.record["refit"] == {"folder": "refit"}
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("slug", ["xgboost", "lightgbm"])
def test_boosters_that_a_limit_cuts_after_a_round_are_kept_and_say_so(slug, task, tmp_path):
    run = fit_run(slug, task, out=tmp_path / "run", time_limit=1e-6, threads=1)
    assert run.finished
    assert "the time limit ended training after 1 of at most 2000" in run.record["notes"][0]


def test_a_booster_that_is_cut_keeps_its_best_round_so_far(task, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    learner = LightGBMRegressor(lr=1.0, time_limit=60, patience=1000, threads=1)
    task.fit(learner)
    assert learner.best_epoch_ < 20 and "of at most 2000" in learner.notes_[-1]


def test_histogram_boosting_grows_as_many_trees_as_the_limit_allows(task):
    learner = GradientBoostingRegressor(max_trees=100_000, patience=None, threads=1)
    began = time.monotonic()
    with session(time_limit=1.0):
        task.fit(learner)
    assert time.monotonic() - began < 4
    assert "the time limit ended training after" in learner.notes_[-1]
    assert 1 <= learner.estimator_.n_iter_ < 100_000


@pytest.mark.parametrize("kind", [LinearRegressor, LinearClassifier])
def test_a_linear_model_does_what_the_limit_allows_and_says_what_it_left_out(kind):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(20_000, 200)) * np.logspace(-2, 2, 200)
    y = X @ generator.normal(size=(200, 12)) + generator.normal(size=(20_000, 12))
    learner = kind(max_steps=100_000, preprocess=None, threads=1)
    began = time.monotonic()
    with session(time_limit=1.0):
        learner.fit(X, y[:, 0] if kind is LinearRegressor else y.argmax(1))
    assert time.monotonic() - began < 5
    assert "penalties to be tried" in learner.notes_[0]
    assert "time limit ended the solver after" in learner.notes_[1]
    assert np.isfinite(learner.predict(X[:9])).all()


@pytest.mark.parametrize("kind", [LinearRegressor, LinearClassifier])
def test_a_limit_that_is_long_enough_changes_no_weight_of_a_linear_model(kind, frame):
    X, y = frame.drop(columns="y"), frame["y"] if kind is LinearRegressor else frame["y"] > 0
    free = kind(threads=1).fit(X, y)
    with session(time_limit=600):
        bound = kind(threads=1).fit(X, y)
    assert not bound.notes_ and bound.penalty_ == free.penalty_
    assert (bound.estimator_.coef_ == free.estimator_.coef_).all()


def test_skan_shares_a_limit_over_its_phases_and_its_race(task):
    learner = SKANRegressor(max_epochs=3000, hidden=[4], threads=1, time_limit=4.0)
    began = time.monotonic()
    task.fit(learner)
    assert time.monotonic() - began < 7
    assert {line["phase"] for line in learner.history_} == {"full", "selective", "pruned"}
    assert learner.network_.arguments["choice"] is not None
    assert "time limit" in learner.notes_[-1]


def test_importance_does_less_in_less_time_and_nothing_in_none(task):
    class Slow:
        def predict(self, X):
            time.sleep(2e-4 * len(X))
            return np.zeros(len(X))

    began = time.monotonic()
    found = permutation_importance(Slow(), task, seconds=0.09)
    assert len(found) == 5 and time.monotonic() - began < 0.2
    assert permutation_importance(Slow(), task, seconds=0.0) == []


def test_a_run_that_breaks_is_not_left_running(task, tmp_path, monkeypatch):
    monkeypatch.setattr(LightGBMRegressor, "_note_if_cut", lambda self: {}["broken"])
    with pytest.raises(KeyError):
        fit_run("lightgbm", task, out=tmp_path / "run", threads=1)
    assert Run(tmp_path / "run").record["status"] == "failed"


def test_a_clock_that_is_set_while_a_study_runs_changes_no_limit(task, tmp_path, monkeypatch):
    real = time.time
    for place, days in enumerate((-400, 400)):
        out, began = tmp_path / str(place), real()
        # right for as long as the study takes to begin, then set
        monkeypatch.setattr(
            time, "time",
            lambda out=out, days=days: real() + 86400 * days * (out / "plan.json").exists(),
        )  # fmt: skip
        study = compare(task, out=out, methods=["linear"], seeds=2, threads=1, time_limit=60)
        monkeypatch.undo()
        assert study.record["not_begun"] == [] and len(study.runs) == 2
        assert study.record["importance"] and time.time() - began < 60


def test_what_was_not_begun_is_no_failure(task, tmp_path):
    from stackwise.studies.jobs import Shared

    failures = Schedule(deadline=time.monotonic() - 1).run(
        [FitJob("linear", 0), FitJob("linear", 1)], Shared(task, tmp_path, {"threads": 1})
    )
    assert failures == {"linear-seed1": NOT_BEGUN}


def test_work_that_a_limit_cannot_hold_counts_as_not_begun(tmp_path):
    def work():
        raise OutOfTime("a copy took 9 s")

    assert problem_of(work, tmp_path) == NOT_BEGUN
