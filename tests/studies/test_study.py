"""A comparison from Python: what it gives back, and what is done with the winner."""

import errno
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import stackwise
from stackwise.errors import DataError, NotInstalled, RunError, StorageError, StudyError
from stackwise.files import write_json
from stackwise.learning.metrics import Metric
from stackwise.studies import Study
from stackwise.studies.leaderboard import CUT
from stackwise.tasks.table.task import TableTask

QUICK = {"methods": ["linear", "lightgbm"], "seeds": 2, "preset": "quick", "threads": 1}


def numbers(rows: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=rows), "kind": rng.choice(list("abc"), rows)})
    frame["y"] = 3 * frame["x"] + (frame["kind"] == "a") + 0.3 * rng.normal(size=rows)
    return frame


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return numbers()


@pytest.fixture(scope="module")
def study(table) -> Study:
    return stackwise.compare(table, "y", **QUICK)


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Study:
    """One in eight rows is of the class that a user wants to find."""
    frame = numbers(400)
    frame["y"] = np.where(frame["y"] > 3.4, "yes", "no")
    out = tmp_path_factory.mktemp("study") / "classes"
    return stackwise.compare(frame, "y", out=out, refit=True, **QUICK | {"seeds": 1})


def test_without_a_folder_a_comparison_writes_a_temporary_one_with_its_page(study):
    assert study.folder.is_dir() and study.report == study.folder / "report.html"


def test_the_leaderboard_has_scores_times_and_what_the_limit_cut(study):
    table = study.leaderboard()
    assert set(table["method"]) == {"linear", "lightgbm", "lightgbm (extra-trees)"}
    assert table["validation"].is_monotonic_increasing and table.attrs["metric"] == "rmse"
    assert (table[["test", "fit_seconds", "predict_ms", "size_mb"]] > 0).all(axis=None)
    assert not table[CUT].any() and (table["seeds"] == 2).all()


def test_the_leaderboard_says_which_method_the_limit_cut(table, tmp_path):
    study = stackwise.compare(
        table, "y", out=tmp_path / "cut", methods=["linear", "mlp"], seeds=1, time_limit=20,
        knobs={"mlp": {"max_epochs": 100_000, "patience": None}},
    )  # fmt: skip
    assert study.leaderboard().set_index("method")[CUT].to_dict() == {"linear": False, "mlp": True}


def test_the_winner_predicts_frames_of_all_kinds_and_files_alike(study, table, tmp_path):
    import polars
    import pyarrow

    new = table.drop(columns="y").head(20)
    expected = study.best.predict(new)
    new.to_csv(tmp_path / "new.csv", index=False)
    given = [new, polars.from_pandas(new), pyarrow.Table.from_pandas(new), tmp_path / "new.csv"]
    for one in given:
        assert np.allclose(study.predict(one), expected, rtol=1e-12)
    with pytest.raises(DataError, match="no probabilities"):
        study.predict_proba(new)


def test_polars_and_arrow_are_compared_as_pandas_is(table, study):
    import polars
    import pyarrow

    for frame in (polars.from_pandas(table), pyarrow.Table.from_pandas(table)):
        same = stackwise.compare(frame, "y", **QUICK | {"methods": ["linear"]})
        mine = study.leaderboard().set_index("method").loc["linear", "test"]
        assert same.leaderboard()["test"].item() == pytest.approx(mine, rel=1e-9)


def test_load_gives_studies_back_and_what_save_wrote(study, table, tmp_path):
    again = stackwise.load(study.folder)
    assert isinstance(again, Study) and again == study
    new = table.drop(columns="y")
    again.best.save(tmp_path / "saved")
    assert (stackwise.load(tmp_path / "saved").predict(new) == study.predict(new)).all()
    with pytest.raises(RunError, match="not finished"):
        (tmp_path / "half").mkdir()
        (tmp_path / "half" / "plan.json").write_text("{}")
        stackwise.load(tmp_path / "half")


def test_the_winner_fitted_again_has_learned_from_all_rows(classes):
    assert classes.kept.folder.name == "refit" and classes.winner.folder.parent.name == "runs"
    record, before = classes.kept.record, classes.winner.record
    assert record["data"]["rows"] == {"train": 400, "validation": 0, "test": 0}
    assert record["scores"] == before["scores"] and record["refit_of"] in str(classes.winner.folder)
    assert any("fitted again" in note for note in record["notes"])
    if record["slug"] == "lightgbm":
        assert classes.best.max_trees == stackwise.load(classes.winner.folder).best_epoch_
    new = numbers(30).drop(columns="y")
    assert (classes.predict(new) == classes.best.predict(new)).all()
    assert not np.allclose(
        classes.predict_proba(new), stackwise.load(classes.winner.folder).predict_proba(new)
    )


def test_an_ensemble_of_runs_is_kept_as_it_is(tmp_path):
    from stackwise.report.comparing import _refit

    task = TableTask.load(numbers(), target="y")
    study = stackwise.compare(task, out=tmp_path / "s", stack=True, **QUICK | {"seeds": 1})
    chosen = study.record["winner"] | {"folder": "runs/stacked-seed0"}
    write_json(study.folder / "study.json", study.record | {"winner": chosen})
    _refit(study, task, None, None)
    assert "kept as it is" in study.record["refit"]["why"] and study.kept == study.winner
    assert not (study.folder / "refit").exists()


def test_the_winner_is_not_fitted_again_where_the_limit_leaves_too_little(table, tmp_path):
    asked = QUICK | {"target": "y", "out": tmp_path / "s", "refit": True, "methods": ["linear"]}
    study = stackwise.compare(table, time_limit=0.01, **asked)
    assert "the time limit leaves 0 s and the winner's fit took" in study.record["refit"]["why"]
    assert study.kept == study.winner and not (study.folder / "refit").exists()
    again = stackwise.compare(table, resume=True, **asked)
    assert again.kept.folder.name == "refit" and "refit" in again.record["refit"]["folder"]


def test_a_full_disk_while_the_winner_is_fitted_again_is_no_reason_to_leave_it(
    table, tmp_path, monkeypatch
):
    asked = QUICK | {"methods": ["linear"], "seeds": 1, "out": tmp_path / "s", "refit": True}
    real = os.replace

    def replace(source, target):
        if "refit" in Path(target).parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(StorageError, match="No space left"):
        stackwise.compare(table, "y", **asked)
    monkeypatch.undo()
    study = stackwise.compare(table, "y", resume=True, **asked)
    assert study.kept.folder.name == "refit"


def test_what_was_begun_of_an_overtaken_winner_makes_room_for_the_new_one(tmp_path):
    from stackwise.report.comparing import _refit

    task = TableTask.load(numbers(), target="y")
    study = stackwise.compare(task, out=tmp_path / "s", **QUICK | {"methods": ["linear"]})
    _refit(study, task, None, None)
    (study.folder / "refit" / "run.json").unlink()  # as a kill in its midst leaves it
    other = next(run.folder for run in study.runs if run != study.winner)
    chosen = study.record["winner"] | {"folder": f"runs/{other.name}"}
    write_json(study.folder / "study.json", study.record | {"winner": chosen})
    _refit(study, task, None, None)
    assert study.kept.record["refit_of"] == other.name


def test_a_threshold_is_the_best_one_on_validation_rows_alone(classes):
    from stackwise.tasks.table.decisions import best_threshold

    rows = classes.winner.predictions_on("validation")
    at = best_threshold(classes.winner, classes.best, "balanced_accuracy")

    def score(threshold: float) -> float:
        taken = rows["probability_yes"] >= threshold
        truth = rows["target"] == "yes"
        return (taken[truth].mean() + (~taken[~truth]).mean()) / 2

    assert score(at) == pytest.approx(max(score(t) for t in np.linspace(0.001, 0.999, 999)))
    new = numbers(200).drop(columns="y")
    found = classes.predict(new, threshold_for="balanced_accuracy")
    assert ((classes.predict_proba(new)[:, 1] >= at) == (found == "yes")).all()


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_an_interval_holds_its_share_of_new_truths(study, coverage):
    rng = np.random.default_rng(5)
    new = pd.DataFrame({"x": rng.normal(size=3000), "kind": rng.choice(list("abc"), 3000)})
    truth = 3 * new["x"] + (new["kind"] == "a") + 0.3 * rng.normal(size=3000)
    found = study.answers(new, interval=coverage)
    held = ((found["low"] <= truth) & (truth <= found["high"])).mean()
    assert coverage - 0.12 < held < coverage + 0.12  # 192 rows that choose


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"interval": 0.999}, "192 validation rows are too few"),
        ({"threshold": 0.3}, "between two classes"),
    ],
)
def test_what_cannot_be_decided_says_why(study, table, options, says):
    with pytest.raises(DataError, match=says):
        study.predict(table, **options)


def test_a_score_of_probabilities_has_no_threshold(classes, table):
    with pytest.raises(DataError, match="no threshold changes it"):
        classes.predict(table, threshold_for="auc")


def test_partial_dependence_finds_a_slope_and_what_a_word_is_worth(study, table):
    found = study.partial_dependence(table, "x")
    slope = np.polyfit(found["value"], found["prediction"], 1)[0]
    assert slope == pytest.approx(3, abs=0.3) and found["rows"].sum() == len(table)
    worth = study.partial_dependence(table, "kind").set_index("value")["prediction"]
    assert worth["a"] - worth["b"] == pytest.approx(1, abs=0.3)
    with pytest.raises(DataError, match="Did you mean 'kind'"):
        study.partial_dependence(table, "kinds")


def test_partial_dependence_of_classes_has_their_probabilities(classes):
    found = classes.partial_dependence(numbers(50), "x")
    assert np.allclose(found["probability_no"] + found["probability_yes"], 1)
    assert found["probability_yes"].iloc[-1] > found["probability_yes"].iloc[0]


def test_the_contributions_of_a_row_add_up_to_its_answer(study, table):
    pytest.importorskip("shap")
    found = study.contributions(table.head(5)[["x", "kind"]], table)
    assert np.allclose(found.sum(axis=1), study.predict(table.head(5)))


def test_without_shap_contributions_say_what_to_install(study, table, monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(NotInstalled, match="pip install shap"):
        study.contributions(table, table)


def test_the_command_line_refits_and_decides(classes, tmp_path, monkeypatch, capsys):
    from stackwise import cli

    monkeypatch.chdir(tmp_path)
    numbers(40).drop(columns="y").to_csv("new.csv", index=False)

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["stackwise", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    call("predict", str(classes.folder), "new.csv", "-o", "p.csv", "--threshold", "0.01")
    low = (pd.read_csv("p.csv")["prediction"] == "yes").sum()
    call("predict", str(classes.folder), "new.csv", "-o", "q.csv", "--threshold-for", "f1")
    assert low > (pd.read_csv("q.csv")["prediction"] == "yes").sum()
    numbers(120).to_csv("t.csv", index=False)
    out = call("compare", "t.csv", "--target", "y", "--method", "linear", "--seeds", "1",
               "--refit", "--out", "s")  # fmt: skip
    assert "Keep: s/refit" in out
    assert json.loads(Path("s/study.json").read_text())["refit"] == {"folder": "refit"}
    call("predict", "s", "new.csv", "-o", "r.csv", "--interval", "0.8")
    answers = pd.read_csv("r.csv")
    assert (answers["low"] < answers["prediction"]).all()


def test_a_study_without_its_page_says_how_to_write_one(study, tmp_path):
    import shutil

    shutil.copytree(study.folder, tmp_path / "s", ignore=shutil.ignore_patterns("report.html"))
    with pytest.raises(StudyError, match="stackwise report"):
        _ = Study(tmp_path / "s").report


def test_a_metric_that_the_test_rows_cannot_have_is_refused_before_anything_is_fitted():
    frame = numbers()
    frame["y"] = np.where(frame["y"] > 0, "yes", "no")
    ones = frame[frame["y"] == "yes"].head(20)
    rest = frame.drop(ones.index)
    with pytest.raises(DataError, match="roc_auc has no value on the test rows: they hold one cl"):
        TableTask.load(rest, target="y", test=ones, metric="roc_auc")
    assert TableTask.load(rest, target="y", test=ones, metric="log_loss").metric.name == "log_loss"


def test_a_run_without_a_score_is_named_and_is_not_ranked(tmp_path):
    """A metric that has a value for the truth and for a linear model alone."""

    def smooth(target, prediction):
        straight = np.corrcoef(target, prediction)[0, 1] > 0.99999
        return float(np.abs(target - prediction).mean()) if straight else np.nan

    task = TableTask.load(
        numbers(400).assign(y=lambda frame: 3 * frame["x"]), target="y",
        metric=Metric("smooth", "min", function=smooth),
    )  # fmt: skip
    settings = QUICK | {"methods": ["linear", "gradient-boosting"], "seeds": 1}
    study = stackwise.compare(task, out=tmp_path / "s", **settings)
    assert list(study.leaderboard()["method"]) == ["linear"]
    assert "its smooth on the" in study.record["failures"]["gradient-boosting-seed0"]
    assert "is no number" in (tmp_path / "s" / "report.html").read_text()
