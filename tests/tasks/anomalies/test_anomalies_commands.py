"""The task from files, on the command line: fit, predict, probe, compare."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stackwise import data
from stackwise.tasks.anomalies.small import small_series


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with plant.csv and new.csv."""
    made = tmp_path_factory.mktemp("plant")
    frame = small_series()
    frame.to_csv(made / "plant.csv", index=False)
    frame.drop(columns="fault").iloc[:120].to_csv(made / "new.csv", index=False)
    return made


SMALL = ("--preset", "quick", "--set", "max_epochs=1")


@pytest.mark.slow
def test_fit_predict_and_probe(place, monkeypatch, command):
    monkeypatch.chdir(place)
    code, _, err = command("fit", "stackvae-g", "plant.csv", "--time", "timestamp", "--label",
                           "fault", "--out", "runs/plant", *SMALL)  # fmt: skip
    assert code == 0, err
    record = json.loads(Path("runs/plant/run.json").read_text())
    assert 0 < record["scores"]["test"]["average_precision"] <= 1
    code, _, err = command("predict", "runs/plant", "new.csv", "-o", "scores.csv")
    assert code == 0, err
    scores = pd.read_csv("scores.csv")
    assert list(scores) == [
        "timestamp", "score", "threshold", "alarm", "channel", "verdict", "status"
    ]  # fmt: skip
    assert scores["status"].tolist() == ["start"] * 15 + ["scored"] * 105
    assert Path("scores-events.csv").is_file()
    assert command("predict", "runs/plant", "plant.csv", "-o", "again.parquet")[0] == 0
    again = pd.read_parquet("again.parquet")
    np.testing.assert_allclose(again["score"][15:120], scores["score"][15:], rtol=1e-5)
    for words in (("--data", "new.csv", "--out", "p1"), ("--out", "p2")):  # its own source
        code, out, err = command("probe", "stackvae-g", "runs/plant", *words)
        assert code == 0 and "is strangest" in out, err
        assert {path.stem for path in Path(words[-1], "figures").iterdir()} == {
            "scores", "errors", "matrix", "graph"
        }  # fmt: skip
    assert command("report", "runs/plant", "--out", "r.html")[0] == 0
    assert "Scores over the test moments" in Path("r.html").read_text()
    bad = pd.read_csv("new.csv").drop(columns="x1")
    bad.to_csv("bad.csv", index=False)
    code, _, err = command("predict", "runs/plant", "bad.csv", "-o", "no.csv")
    assert code == 2 and "'x1' is missing" in err and not Path("no.csv").exists()


def test_without_labels_there_is_no_score_and_no_comparison(place, monkeypatch, command):
    monkeypatch.chdir(place)
    words = ("new.csv", "--time", "timestamp")
    assert command("fit", "z-score", *words, "--out", "runs/bare")[0] == 0
    assert json.loads(Path("runs/bare/run.json").read_text())["scores"]["test"] == {}
    assert command("predict", "runs/bare", "new.csv", "-o", "bare.csv")[0] == 0
    assert command("report", "runs/bare", "--out", "bare.html")[0] == 0
    code, _, err = command("compare", *words, "--task", "anomalies", "--out", "cmp0")
    assert code == 2 and err.count("\n") == 1 and "no anomaly is labelled" in err


@pytest.mark.slow
def test_detectors_are_compared(place, monkeypatch, command):
    monkeypatch.chdir(place)
    code, _, err = command(
        "compare", "plant.csv", "--time", "timestamp", "--label", "fault", "--seeds", "1",
        "--preset", "quick", "--method", "pca", "--method", "z-score", "--out", "cmp",
    )  # fmt: skip
    assert code == 0, err
    study = json.loads(Path("cmp/study.json").read_text())
    assert {row["method"] for row in study["ranking"]} == {"pca", "z-score"}
    assert study["metric"] == {"name": "average_precision", "mode": "max"}


def test_a_series_by_name():
    from stackwise.tasks.anomalies.task import AnomaliesTask

    if absent := data.lacking("daphnet-faults", "anomalies"):
        pytest.skip(absent)
    task = AnomaliesTask.load("daphnet-faults")
    assert task.spans["train"] == (0, 3520) and len(task.series.channels) == 9
    labels = task.series.labels
    assert labels.sum() == 9 * 64 and not labels[:3520].any() and task.unscored is None
