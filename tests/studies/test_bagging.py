import time

import numpy as np
import pandas as pd
import pytest

from stackwise import load, runs
from stackwise.errors import DataError, OutOfTime
from stackwise.tasks.labelled.ensembles import bagged as bagged_file
from stackwise.tasks.labelled.ensembles.bagged import Bagged
from stackwise.tasks.table.baselines import LightGBMClassifier, LinearRegressor, MLPClassifier
from stackwise.tasks.table.task import TableTask
from stackwise.training.session import session


@pytest.fixture(scope="module")
def classes():
    return TableTask.load("heart")


@pytest.fixture(scope="module")
def numbers():
    return TableTask.load("diabetes")


def test_a_bagged_prediction_is_the_mean_of_its_copies(numbers):
    bagged = Bagged(LinearRegressor()).fit(numbers, numbers.folds(4))
    X, _ = numbers.part("test")
    assert len(bagged.members) == 4
    assert np.allclose(
        bagged.predict(X), np.mean([m.predict(X) for m in bagged.members.values()], axis=0)
    )


def test_probabilities_are_averaged_and_add_to_one(classes):
    bagged = Bagged(LightGBMClassifier(max_trees=5)).fit(classes, classes.folds(3))
    X, _ = classes.part("test")
    found = bagged.predict_proba(X)
    assert np.allclose(
        found, np.mean([m.predict_proba(X) for m in bagged.members.values()], axis=0)
    )
    assert np.allclose(found.sum(1), 1)
    assert (bagged.predict(X) == bagged.classes_[found.argmax(1)]).all()


def test_an_out_of_fold_prediction_comes_from_the_copy_that_has_not_learned_the_row(numbers):
    folds = numbers.folds(3)
    bagged = Bagged(LinearRegressor()).fit(numbers, folds)
    frame, _ = bagged.out_of_fold_rows_
    values = bagged.out_of_fold_.prediction
    for fold, member in enumerate(bagged.members.values()):
        assert np.array_equal(values[folds == fold], member.predict(frame[folds == fold]))


def test_copies_that_a_limit_cannot_hold_end_with_the_second_and_go_on_from_there(
    numbers, tmp_path, monkeypatch
):
    quick = LinearRegressor.fit

    def slow(self, *given, **options):
        time.sleep(0.4)  # whatever the limit says
        return quick(self, *given, **options)

    monkeypatch.setattr(LinearRegressor, "fit", slow)
    monkeypatch.setattr(bagged_file, "LATE", 0.0)
    with session(folder=tmp_path, time_limit=0.5), pytest.raises(OutOfTime, match="--resume"):
        Bagged(LinearRegressor()).fit(numbers, numbers.folds(5))
    done = sorted(path.parent.name for path in tmp_path.glob("*/fold.json"))
    assert done == ["fold-0", "fold-1"]
    with session(folder=tmp_path, resume=True, time_limit=60):
        assert len(Bagged(LinearRegressor()).fit(numbers, numbers.folds(5)).members) == 5


def test_folds_share_out_classes_and_keep_groups_whole(classes):
    folds = classes.folds(5)
    labels = np.concatenate([classes.part("train")[1], classes.part("validation")[1]])
    table = pd.crosstab(labels, folds)
    assert (table.max(axis=1) - table.min(axis=1) <= 1).all()

    frame = pd.DataFrame({"who": np.repeat(np.arange(60), 4), "x": np.arange(240) % 7})
    frame["y"] = np.random.default_rng(0).normal(size=240)
    task = TableTask.load(frame, target="y", group="who")
    rows = [*task.part("train")[0].index, *task.part("validation")[0].index]
    of_group = pd.DataFrame({"who": frame["who"].loc[rows].to_numpy(), "fold": task.folds(4)})
    assert (of_group.groupby("who")["fold"].nunique() == 1).all()


def test_a_table_split_by_time_is_not_bagged():
    frame = pd.DataFrame({"year": np.arange(100), "x": np.random.default_rng(0).normal(size=100)})
    task = TableTask.load(frame.assign(y=frame["x"]), target="y", time="year")
    with pytest.raises(DataError, match="would mix times"):
        task.folds(4)


def test_a_class_of_one_row_is_unknown_to_the_copy_that_holds_it_out():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=61), "z": rng.normal(size=61)})
    frame["y"] = ["a", "b"] * 30 + ["c"]
    task = TableTask.load(frame, target="y")
    bagged = Bagged(LightGBMClassifier(max_trees=3, min_samples_leaf=2)).fit(task, task.folds(3))
    assert list(bagged.classes_) == ["a", "b", "c"]
    assert min(len(member.classes_) for member in bagged.members.values()) == 2
    assert np.allclose(bagged.predict_proba(frame).sum(1), 1)


def test_a_bagged_run_is_kept_and_read_back_to_the_bit(classes, tmp_path):
    run = runs.fit_run("mlp", classes, out=tmp_path / "run", preset="quick", bag=2, threads=1)
    learner, (X, _) = load(run.folder), classes.part("test")
    kept = run.predictions.filter(like="probability_").to_numpy()
    assert np.array_equal(learner.predict_proba(X), kept)
    held = run.predictions_on("validation")
    assert len(held) == len(classes.part("train")[1]) + len(classes.part("validation")[1])
    assert not list(run.folder.rglob("checkpoint/*"))


def test_a_bagged_run_that_was_cut_off_keeps_the_copies_that_were_done(
    classes, tmp_path, monkeypatch
):
    whole = runs.fit_run("mlp", classes, out=tmp_path / "a", preset="quick", bag=3, threads=1)
    fit, done = MLPClassifier.fit, []

    def twice(self, *given, **more):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return fit(self, *given, **more)

    monkeypatch.setattr(MLPClassifier, "fit", twice)
    with pytest.raises(KeyboardInterrupt):
        runs.fit_run("mlp", classes, out=tmp_path / "b", preset="quick", bag=3, threads=1)
    done.clear()
    again = runs.fit_run(
        "mlp", classes, out=tmp_path / "b", preset="quick", bag=3, threads=1, resume=True
    )
    assert len(done) == 1  # the third copy alone
    assert again.record["scores"] == whole.record["scores"]
