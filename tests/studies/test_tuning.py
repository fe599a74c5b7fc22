import json

import numpy as np
import optuna
import pytest

from stackwise.catalog import card, cards
from stackwise.errors import StudyError
from stackwise.files import read_json
from stackwise.studies import compare
from stackwise.studies.jobs import Shared
from stackwise.studies.tuning import SearchJob, best_knobs, space, suggest
from stackwise.tasks.table.task import TableTask

SETTINGS = {"preset": "quick", "threads": 1}


@pytest.fixture(scope="module")
def task():
    return TableTask.load("iris", split_seed=1)


def searched(task, out, trials, slug="lightgbm", knobs=None):
    SearchJob(slug, trials, 0, knobs or {}).do(Shared(task, out, SETTINGS), None, None)
    return read_json(out / "tuning" / f"{slug}.json")


def test_the_first_trial_is_the_preset_itself(task, tmp_path):
    found = searched(task, tmp_path, 2)
    assert found["trials"][0]["knobs"] == card("lightgbm").presets["quick"]
    assert found["trials"][1]["knobs"] != found["trials"][0]["knobs"]


def test_the_best_trial_by_validation_is_chosen(task, tmp_path):
    found = searched(task, tmp_path, 4)
    scores = [trial["validation"] for trial in found["trials"]]
    assert found["validation"] == min(scores)
    assert best_knobs(tmp_path, "lightgbm") == found["trials"][int(np.argmin(scores))]["knobs"]


def test_a_search_that_was_cut_off_ends_like_one_that_was_not(task, tmp_path):
    whole = searched(task, tmp_path / "whole", 5)
    part = tmp_path / "part"
    searched(task, part, 3)
    (part / "tuning" / "lightgbm.json").unlink()
    study = optuna.load_study(
        study_name="lightgbm", storage=f"sqlite:///{part / 'tuning' / 'lightgbm.db'}"
    )
    study.ask()  # a kill in the midst of the fourth trial
    assert searched(task, part, 5)["trials"] == whole["trials"]


def test_a_knob_that_is_given_is_not_searched(task, tmp_path):
    found = searched(task, tmp_path, 3, knobs={"lr": 0.07})
    assert "lr" not in found["searched"]
    assert {trial["knobs"]["lr"] for trial in found["trials"]} == {0.07}


@pytest.mark.parametrize(
    "slug",
    [
        slug
        for slug, of in cards().items()
        if "learner" in of.kinds and of.entry("learner").budget is not None
    ],
)
def test_every_search_range_gives_values_that_the_knob_takes(slug):
    entry = card(slug).entry("learner")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = space(entry, {})
    assert found, f"{slug} has nothing to tune"
    for _ in range(20):
        trial = study.ask()
        entry.check({name: suggest(trial, spec) for name, spec in found.items()})


def test_a_search_of_which_every_trial_fails_says_why(task, tmp_path, monkeypatch):
    from stackwise.tasks.table.baselines.lightgbm_trees import LightGBMClassifier

    def broken(*_, **__):
        raise RuntimeError("no trees today")

    monkeypatch.setattr(LightGBMClassifier, "_fit_parts", broken)
    for _ in range(2):  # when it is resumed too
        with pytest.raises(StudyError, match="no trees today"):
            searched(task, tmp_path, 2)


def test_defaults_and_tuned_methods_are_shown_apart(task, tmp_path):
    study = compare(
        task, out=tmp_path / "study", methods=["linear", "lightgbm"], seeds=1, preset="quick",
        tune=2, threads=1,
    )  # fmt: skip
    assert set(study.ranking()["method"]) == {
        "linear", "linear (tuned)", "lightgbm", "lightgbm (extra-trees)", "lightgbm (tuned)",
    }  # fmt: skip
    tuned = json.loads((study.folder / "tuning" / "lightgbm.json").read_text())
    run = next(run for run in study.runs if run.folder.name == "lightgbm-tuned-seed0")
    assert run.record["knobs"].items() >= tuned["best"].items()
    assert np.isfinite(tuned["validation"])
