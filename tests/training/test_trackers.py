"""Experiment trackers: what they hold, that a resume doubles nothing, what they cost when off."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accelerate.state import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from stackwise import runs
from stackwise.errors import Interrupted, KnobError, NotInstalled, RunError
from stackwise.tasks.table.task import TableTask
from stackwise.training.tracking import trackers

KNOBS = {"width": 8, "n_blocks": 1, "max_epochs": 4, "patience": None}


@pytest.fixture
def task(sales: pd.DataFrame) -> TableTask:
    return TableTask.load(sales, target="price")


@pytest.fixture(autouse=True)
def no_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is looked up: nothing leaves this machine."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a tracker asked the network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.delenv(trackers.VARIABLE, raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def tensorboard(run: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each scalar in the event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / "tracking" / "tensorboard")).Reload()
    return {
        name: [(item.step, item.value) for item in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }


def mlflow(run: Path) -> tuple[dict[str, list[tuple[int, float]]], dict[str, str], str]:
    """(step, value) of each metric, the parameters, and the status."""
    from mlflow import MlflowClient

    place = json.loads((run / "tracking" / "mlflow.json").read_text())
    client = MlflowClient(tracking_uri=place["uri"])
    found = client.get_run(place["run"])
    metrics = {
        name: [(m.step, m.value) for m in client.get_metric_history(place["run"], name)]
        for name in found.data.metrics
    }
    return metrics, found.data.params, found.info.status


def fit(task: TableTask, out: Path, **more: object) -> runs.Run:
    return runs.fit_run("mlp", task, out=out, knobs=KNOBS, **more)  # type: ignore[arg-type]


def losses(run: runs.Run) -> list[tuple[int, float]]:
    return [(i, line["metrics"]["train_loss"]) for i, line in enumerate(run.history, start=1)]


def test_event_files_hold_each_epoch_the_knobs_and_the_final_scores(task, tmp_path):
    run = fit(task, tmp_path / "run", track="tensorboard")
    found = tensorboard(run.folder)
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4]
    assert dict(found["train/loss"]) == pytest.approx(dict(losses(run)))
    assert found["final/test/rmse"] == [(4, pytest.approx(run.record["scores"]["test"]["rmse"]))]
    files = b"".join(p.read_bytes() for p in (run.folder / "tracking").rglob("*tfevents*"))
    assert b"_hparams_/session_start_info" in files and b"knob/width" in files


def test_mlflow_holds_each_epoch_the_knobs_and_the_final_scores(task, tmp_path):
    run = fit(task, tmp_path / "run", track="mlflow")
    metrics, params, status = mlflow(run.folder)
    assert metrics["train/loss"] == losses(run)
    assert metrics["final/test/rmse"] == [(4, run.record["scores"]["test"]["rmse"])]
    assert params["slug"] == "mlp" and params["knob/width"] == "8" and status == "FINISHED"
    assert (tmp_path / "mlflow.db").is_file()


def test_a_resumed_run_goes_on_in_the_same_place_and_doubles_no_epoch(task, tmp_path, monkeypatch):
    monkeypatch.setattr("stackwise.training.loop.EPOCH_PAUSE", 1e9)  # the checkpoint stays behind
    out, both = tmp_path / "run", "tensorboard,mlflow"

    def stop(event: dict) -> None:
        if event.get("metrics") and event["epoch"] == 2:
            raise RuntimeError("killed")  # after two lines, and no checkpoint of them

    with pytest.raises(RuntimeError, match="killed"):
        fit(task, out, track=both, on_event=stop)
    began = json.loads((out / "tracking" / "mlflow.json").read_text())["run"]
    assert mlflow(out)[2] == "FAILED" and len(tensorboard(out)["train/loss"]) == 2
    run = fit(task, out, track=both, resume=True)
    metrics, _, status = mlflow(out)
    assert json.loads((out / "tracking" / "mlflow.json").read_text())["run"] == began
    assert metrics["train/loss"] == losses(run) and status == "FINISHED"
    written = tensorboard(out)["train/loss"]
    assert [step for step, _ in written] == [1, 2, 3, 4]
    assert dict(written) == pytest.approx(dict(losses(run)))


def test_a_tracker_that_is_switched_on_for_the_resume_gets_all_epochs(task, tmp_path):
    out = tmp_path / "run"

    def stop(event: dict) -> None:
        if event.get("metrics") and event["epoch"] == 3:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        fit(task, out, on_event=stop)
    run = fit(task, out, resume=True, track="tensorboard,mlflow")
    assert len(losses(run)) == 4
    assert mlflow(out)[0]["train/loss"] == losses(run)
    written = tensorboard(out)["train/loss"]
    assert [step for step, _ in written] == [1, 2, 3, 4]
    assert dict(written) == pytest.approx(dict(losses(run)))


class Notebook(GeneralTracker):
    """A tracker of a user's own: a file of lines that can only grow."""

    name = "notebook"
    requires_logging_directory = True

    def __init__(self, project: str, folder: str) -> None:
        super().__init__()
        self.file = Path(folder) / f"{project}.jsonl"

    @property
    def tracker(self) -> Path:
        return self.file

    def _write(self, line: dict) -> None:
        print("a tracker that talks")
        with open(self.file, "a") as file:
            file.write(json.dumps(line) + "\n")

    def store_init_configuration(self, values: dict) -> None:
        self._write({"knobs": values})

    def log(self, values: dict, step: int | None = None, **kwargs: object) -> None:
        self._write({"step": step} | values)

    def finish(self) -> None:
        self._write({"finished": True})


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, Notebook.name, Notebook)
    return Notebook.name


def test_any_tracker_of_accelerate_is_told_each_step_once_over_a_resume(
    task, tmp_path, monkeypatch, notebook, capsys
):
    monkeypatch.setattr("stackwise.training.loop.EPOCH_PAUSE", 1e9)  # the checkpoint stays behind
    out = tmp_path / "run"

    def stop(event: dict) -> None:
        if event.get("metrics") and event["epoch"] == 2:
            raise RuntimeError("killed")  # after two lines, and no checkpoint of them

    with pytest.raises(RuntimeError, match="killed"):
        fit(task, out, track=notebook, on_event=stop)
    kept = out / "tracking" / "notebook.json"
    first = json.loads(kept.read_text())
    assert first["steps"] == 2
    run = fit(task, out, track=notebook, resume=True)
    assert json.loads(kept.read_text()) == {"run": first["run"], "steps": 4}
    lines = [json.loads(text) for text in (out / "tracking" / "stackwise.jsonl").open()]
    assert sum("knobs" in line for line in lines) == 1 and lines[0]["knobs"]["knob/width"] == 8
    told = [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]
    assert told == losses(run)
    scores = [line["final/test/rmse"] for line in lines if "final/test/rmse" in line]
    assert scores == [run.record["scores"]["test"]["rmse"]]
    printed = capsys.readouterr()
    assert printed.out == "" and "a tracker that talks" in printed.err


def test_a_learner_without_a_network_is_tracked_and_leaves_no_state_behind(
    task, tmp_path, notebook
):
    PartialState._reset_state()
    run = runs.fit_run("linear", task, out=tmp_path / "run", track=notebook)
    lines = [json.loads(text) for text in (tmp_path / "run/tracking/stackwise.jsonl").open()]
    assert lines[1]["final/test/rmse"] == run.record["scores"]["test"]["rmse"]
    assert not PartialState._shared_state  # else it would choose the next fit's device


def test_mlflow_leaves_the_callers_own_settings_and_run_alone(task, tmp_path, monkeypatch):
    import mlflow as library

    place = f"sqlite:///{tmp_path / 'own.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    library.set_tracking_uri(place)
    with library.start_run() as own:
        fit(task, tmp_path / "run", track="mlflow")
        assert library.active_run().info.run_id == own.info.run_id
        assert library.get_tracking_uri() == place
    assert mlflow(tmp_path / "run")[2] == "FINISHED"
    assert library.get_run(own.info.run_id).data.metrics == {}
    library.set_tracking_uri(None)


def test_tracking_changes_neither_the_request_nor_the_result(task, tmp_path, monkeypatch):
    plain = fit(task, tmp_path / "plain")
    monkeypatch.setenv(trackers.VARIABLE, "tensorboard")
    tracked = fit(task, tmp_path / "tracked")
    assert (tracked.folder / "tracking" / "tensorboard").is_dir()
    assert not (fit(task, tmp_path / "off", track="none").folder / "tracking").exists()
    for name in ("request.json", "model.safetensors"):
        assert (plain.folder / name).read_bytes() == (tracked.folder / name).read_bytes()


def test_a_tracker_that_breaks_on_the_way_does_not_take_the_run_with_it(
    task, tmp_path, monkeypatch
):
    def full(self: object, values: dict, step: int | None = None) -> None:
        if step is not None:
            raise OSError("the disk is full")

    monkeypatch.setattr("accelerate.tracking.TensorBoardTracker.log", full)
    with pytest.warns(UserWarning, match="tracking with tensorboard has ended: the disk is full"):
        assert fit(task, tmp_path / "run", track="tensorboard").finished


def test_mlflow_that_breaks_on_the_way_or_at_the_start_leaves_nothing_open(
    task, tmp_path, monkeypatch
):
    import mlflow as library

    def full(self: object, *given: object, **more: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("accelerate.tracking.MLflowTracker.log", full)
        with pytest.warns(UserWarning, match="tracking with mlflow has ended: the disk is full"):
            assert fit(task, tmp_path / "run", track="mlflow").finished
    assert mlflow(tmp_path / "run")[2] == "FAILED"
    with monkeypatch.context() as patched:
        patched.setattr("accelerate.tracking.MLflowTracker.start", full)
        with pytest.raises(RunError, match="the tracker mlflow cannot be opened"):
            fit(task, tmp_path / "other", track="mlflow")
    assert library.active_run() is None and "MLFLOW_TRACKING_URI" not in os.environ


def test_a_tracker_that_is_not_there_is_named_before_anything_is_written(
    task, tmp_path, monkeypatch
):
    with pytest.raises(KnobError, match="'tensorbord'.*tensorboard"):
        fit(task, tmp_path / "run", track="tensorbord")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in trackers.NEEDS:
        with pytest.raises(NotInstalled, match=rf'{name} needs .*pip install "stackwise\[track\]"'):
            fit(task, tmp_path / "run", track=name)
    with pytest.raises(NotInstalled, match="tracking with wandb needs wandb: pip install wandb"):
        fit(task, tmp_path / "run", track="wandb")
    assert not (tmp_path / "run").exists()


def test_a_fit_without_tracking_imports_no_tracker(tmp_path):
    rows = np.arange(60.0)
    noise = np.random.default_rng(0).normal(size=60)
    pd.DataFrame({"x": noise, "y": rows % 7}).to_csv(tmp_path / "t.csv", index=False)
    code = (
        "import sys; from stackwise import runs; from stackwise.tasks.table.task import TableTask;"
        f"task = TableTask.load({str(tmp_path / 't.csv')!r}, target='y', problem='regression');"
        f"runs.fit_run('linear', task, out={str(tmp_path / 'run')!r});"
        "sys.exit(any(name in sys.modules for name in ('mlflow', 'tensorboard')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
