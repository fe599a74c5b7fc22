import numpy as np
import pandas as pd
import pytest

from stackwise import load
from stackwise.files import read_json
from stackwise.runs import Run
from stackwise.studies import compare
from stackwise.tasks.table.task import TableTask

METHODS = ["linear", "lightgbm", "gradient-boosting", "mlp"]
SMALL = {"mlp": {"max_epochs": 12, "width": 32}, "gradient-boosting": {"max_trees": 20},
         "lightgbm": {"max_trees": 20}, "linear": {"folds": 2}}  # fmt: skip
QUICK = {"methods": METHODS, "threads": 1, "stack": True}


@pytest.fixture(scope="module")
def classes():
    return TableTask.load("german")


@pytest.fixture(scope="module")
def study(classes, tmp_path_factory):
    out = tmp_path_factory.mktemp("s") / "study"
    return compare(classes, out=out, seeds=2, knobs=SMALL, **QUICK)


def ensemble(study, seed=0):
    return study.folder / "runs" / f"stacked-seed{seed}"


def test_the_ensemble_is_ranked_beside_the_runs_that_it_joins(study):
    assert "regularized-meta-learning (all runs)" in set(study.ranking()["method"])
    assert not study.record["failures"]
    assert len(study.runs) == 2 * (len(METHODS) + 2)  # LightGBM takes part twice


def test_it_holds_the_members_that_it_needs_and_counts_what_they_cost(study):
    run = Run(ensemble(study))
    kept = read_json(ensemble(study) / "weights.json")["kept"]
    for name in kept:
        (own,) = study.folder.glob(f"runs/{name}-seed0/model.json")
        copied = ensemble(study) / name
        weights = [p for p in own.parent.iterdir() if p.suffix in (".safetensors", ".skops")]
        assert weights and copied.is_dir()
    spent = sum(
        other.record["seconds"]["fit"]
        for other in study.runs
        if other.record["seed"] == 0 and other.folder != run.folder
    )
    assert run.record["seconds"]["fit"] >= spent  # what it stands on is counted


def test_its_members_learn_from_all_rows_but_the_test_with_the_budget_that_was_chosen(
    study, classes
):
    run = Run(ensemble(study))
    assert any("fitted on all rows but the test's" in note for note in run.record["notes"])
    again = load(ensemble(study)).members
    for name in set(again) & {"lightgbm", "mlp"}:
        alone = load(study.folder / "runs" / f"{name}-seed0")
        budget = "max_trees" if name == "lightgbm" else "max_epochs"
        assert getattr(again[name], budget) == alone.best_epoch_
        assert again[name].patience is None
    X, y = classes.part("validation")
    seen = np.mean(again["linear"].predict(X) == y) if "linear" in again else 1.0
    assert seen > 0.6


def test_it_is_kept_whole_and_predicts_by_itself(study, classes, tmp_path):
    import shutil

    alone = tmp_path / "alone"
    shutil.copytree(ensemble(study), alone)
    X, _ = classes.part("test")
    kept = classes.answers(Run(ensemble(study)), "test")
    assert np.array_equal(load(alone).predict_proba(X), kept)
    assert np.allclose(kept.sum(1), 1)


def test_its_validation_score_is_of_rows_that_its_meta_models_had_not_seen(study, classes):
    held = classes.answers(Run(ensemble(study)), "validation")
    rows = pd.concat([classes.part("train")[0], classes.part("validation")[0]])
    seen = load(ensemble(study)).predict_proba(rows)
    assert not np.allclose(held, seen, atol=1e-6)


def test_a_model_that_only_knows_its_own_rows_gets_no_more_weight_than_it_earns(tmp_path):
    """Trees that repeat their training rows look perfect there, and are judged elsewhere."""
    task = TableTask.load("computers", max_rows=2000)
    asked = {"seeds": 1, "threads": 1, "stack": True, "methods": ["linear", "lightgbm"]}
    overfit = {"lightgbm": {"min_samples_leaf": 1, "max_leaf_nodes": 4000, "patience": None,
                            "max_trees": 400, "lr": 0.3, "l2": 0.0}}  # fmt: skip
    study = compare(task, out=tmp_path / "s", knobs=overfit, **asked)
    trees = load(study.folder / "runs" / "lightgbm-seed0")
    X, y = task.part("train")
    assert (
        np.square(trees.predict(X) - y).mean()
        < 0.2 * np.square(trees.predict(task.part("test")[0]) - task.part("test")[1]).mean()
    )
    rmse = {row["method"]: row["mean"] for row in study.record["ranking"]}
    joined = rmse["regularized-meta-learning (all runs)"]
    assert joined < 1.1 * min(value for name, value in rmse.items() if "all" not in name)


def test_a_bagged_comparison_joins_out_of_fold_predictions(tmp_path):
    task = TableTask.load("diabetes")
    asked = QUICK | {"methods": ["linear", "lightgbm"]}
    study = compare(task, out=tmp_path / "s", seeds=1, bag=3, **asked)
    rows = len(task.part("train")[1]) + len(task.part("validation")[1])
    assert len(Run(ensemble(study)).predictions_on("validation")) == rows
    X, _ = task.part("test")
    assert np.isfinite(load(ensemble(study)).predict(X)).all()


def test_too_few_validation_rows_are_told_and_the_comparison_ends_well(tmp_path):
    x = np.random.default_rng(0).normal(size=120)
    frame = pd.DataFrame({"x": x, "when": range(120), "y": x + x[::-1]})
    task = TableTask.load(frame, target="y", time="when", validation=0.1)
    study = compare(task, out=tmp_path / "s", seeds=1, **QUICK | {"methods": ["linear", "mlp"]})
    assert "12 validation rows are too few" in study.record["failures"]["stacked-seed0"]
    assert study.winner.finished


def test_a_comparison_cut_off_before_the_ensemble_goes_on_with_it(study, classes):
    before = Run(ensemble(study)).record["scores"]
    (ensemble(study) / "run.json").unlink()
    (study.folder / "study.json").unlink()
    again = compare(classes, out=study.folder, seeds=2, resume=True, knobs=SMALL, **QUICK)
    assert Run(ensemble(again)).record["scores"] == before
