"""Resume: what a kill, a signal or a stop at any moment does not lose."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toy_line import line, linear, same, squared
from toy_phases import fit

from stackwise.errors import Interrupted, RunError
from stackwise.files import read_tensors
from stackwise.training import ArrayBatches, Backprop, Loop, Trained, session, train


def stop_after(phase: str, epoch: int) -> Callable[[dict], None]:
    """Sends SIGTERM to this process when `epoch` of `phase` ends, the first time."""
    sent = []

    def stop(event: dict) -> None:
        if not sent and (event["phase"], event["epoch"]) == (phase, epoch) and "metrics" in event:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGTERM)

    return stop


def test_killed_at_random_moments_a_fit_ends_with_the_same_weights(tmp_path: Path):
    script = Path(__file__).with_name("toy_phases.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(folder: Path) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, str(script), str(folder)], env=environment)

    whole = start(tmp_path / "whole")
    killed = 0
    generator = random.Random(0)
    for _ in range(3):
        process = start(tmp_path / "cut")
        checkpoint = tmp_path / "cut" / "checkpoint" / "0.safetensors"
        deadline = time.monotonic() + 30
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and time.monotonic() < deadline:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                break
            time.sleep(0.01)
        time.sleep(generator.uniform(0.0, 0.1))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    assert start(tmp_path / "cut").wait() == 0
    assert whole.wait() == 0
    assert killed >= 2
    assert [p.name for p in (tmp_path / "cut" / "checkpoint").iterdir()] == ["0.safetensors"]
    left = read_tensors(tmp_path / "whole" / "final.safetensors")
    right = read_tensors(tmp_path / "cut" / "final.safetensors")
    assert all(torch.equal(left[name], right[name]) for name in left)
    epochs = []
    for name in ("whole", "cut"):
        text = (tmp_path / name / "metrics.jsonl").read_text()
        lines = [json.loads(row) for row in text.splitlines()]
        epochs.append([(row["phase"], row["epoch"], row["metrics"]) for row in lines])
    assert epochs[0] == epochs[1]


def test_sigterm_writes_a_checkpoint_and_the_resumed_fit_is_the_same(tmp_path: Path):
    plain = fit()

    def stop(event: dict) -> None:
        if event["phase"] == "deep" and event["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        fit()
    with session(folder=tmp_path, resume=True):
        assert same(fit(), plain)
    with session(folder=tmp_path, resume=True):
        again = fit()
    assert same(again, plain)
    assert again.stopped == plain.stopped


def test_each_fit_of_a_session_has_its_own_checkpoint(tmp_path: Path):
    def both() -> list[Trained]:
        batches = ArrayBatches(line(), 16)
        return [train(linear(), Backprop(squared, lr=lr), batches, max_epochs=1)
                for lr in (1e-3, 1e-2)]  # fmt: skip

    with session(folder=tmp_path):
        first = both()
    with session(folder=tmp_path, resume=True):
        second = both()
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    assert not same(*first)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_cut_off_checkpoint_is_refused_by_name(tmp_path: Path):
    with session(folder=tmp_path):
        train(linear(), Backprop(squared), ArrayBatches(line(), 16), max_epochs=1)
    path = tmp_path / "checkpoint" / "0.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with (
        pytest.raises(RunError, match=r"0\.safetensors is damaged"),
        session(folder=tmp_path, resume=True),
    ):
        train(linear(), Backprop(squared), ArrayBatches(line(), 16), max_epochs=1)


def test_a_checkpoint_of_another_model_is_refused_by_name(tmp_path: Path):
    with session(folder=tmp_path):
        train(linear(), Backprop(squared), ArrayBatches(line(), 16), max_epochs=1)
    with (
        pytest.raises(RunError, match=r"0\.safetensors is of another model"),
        session(folder=tmp_path, resume=True),
    ):
        train(nn.Linear(3, 2), Backprop(squared), ArrayBatches(line(), 16), max_epochs=1)


@pytest.mark.parametrize(("phase", "epoch"), [("short", 8), ("deep", 1), ("deep", 8)])
def test_a_stop_at_the_edge_of_a_phase_changes_nothing(tmp_path: Path, phase: str, epoch: int):
    plain = fit()
    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop_after(phase, epoch)):
        fit()
    with session(folder=tmp_path, resume=True):
        again = fit()
    assert same(again, plain)
    assert len(again.history) == len(plain.history) == 16


def test_a_stop_in_the_epoch_that_ends_patience_keeps_the_best_weights(tmp_path: Path):
    def patient(scores: Iterator[float]) -> Trained:
        rule = Backprop(squared, lr=0.1, validate=lambda model: {"loss": next(scores)})
        return train(linear(), rule, ArrayBatches(line(), 16), max_epochs=9, patience=3)

    scores = [3.0, 1.0, 2.0, 2.0, 2.0]
    plain = patient(iter(scores))
    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop_after("train", 5)):
        patient(iter(scores))
    with session(folder=tmp_path, resume=True):
        again = patient(iter([]))
    assert same(again, plain)
    assert (again.best_epoch, again.best_score, again.stopped) == (2, 1.0, "patience")


@pytest.mark.parametrize("batch", [2, 3, 4, 5, 8, 9])
def test_a_stop_after_any_batch_of_an_accumulation_changes_nothing(tmp_path: Path, batch: int):
    def accumulated(stop: int | None) -> Trained:
        seen = []

        def loss(model: nn.Module, part: dict[str, Tensor]) -> Tensor:
            seen.append(1)
            if len(seen) == stop:
                os.kill(os.getpid(), signal.SIGTERM)
            return squared(model, part)

        rule = Backprop(loss, lr=0.1, accumulate=4)
        return train(linear(), rule, ArrayBatches(line(), 8), max_epochs=2)

    plain = accumulated(None)
    with pytest.raises(Interrupted), session(folder=tmp_path):
        accumulated(batch)
    with session(folder=tmp_path, resume=True):
        again = accumulated(None)
    assert same(again, plain)
    strip = [(row["epoch"], row["metrics"]) for row in again.history]
    assert strip == [(row["epoch"], row["metrics"]) for row in plain.history]


def test_lines_of_epochs_before_the_first_checkpoint_are_not_written_twice(tmp_path: Path):
    class Killed(BaseException):
        pass

    def kill(event: dict) -> None:
        if event["epoch"] == 3 and "metrics" in event:
            raise Killed

    def short() -> Trained:
        return train(linear(), Backprop(squared), ArrayBatches(line(), 16), max_epochs=5)

    with pytest.raises(Killed), session(folder=tmp_path, on_event=kill):
        short()
    assert not (tmp_path / "checkpoint").exists()
    with session(folder=tmp_path, resume=True):
        short()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in lines] == [1, 2, 3, 4, 5]


def test_a_scalar_that_is_not_a_number_survives_a_resume_and_is_null_in_the_file(tmp_path: Path):
    class Aside(Backprop):
        def step(self, loop: Loop, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            if loop.step == 1 and stop:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().step(loop, model, batch) | {"aside": torch.tensor(math.nan)}

    stop = True
    with suppress(Interrupted), session(folder=tmp_path):
        train(linear(), Aside(squared), ArrayBatches(line(), 16), max_epochs=1)
    stop = False
    with session(folder=tmp_path, resume=True):
        trained = train(linear(), Aside(squared), ArrayBatches(line(), 16), max_epochs=1)
    assert math.isnan(trained.history[0]["metrics"]["train_aside"])
    (row,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(row)["metrics"]["train_aside"] is None


def test_a_finished_fit_comes_back_without_a_step_and_without_writing(tmp_path: Path):
    with session(folder=tmp_path):
        plain = fit()
    before = (tmp_path / "checkpoint" / "0.safetensors").stat().st_mtime_ns

    with session(folder=tmp_path, resume=True):
        again = fit(refuse=True)
    assert same(again, plain)
    assert again.history == plain.history
    assert (tmp_path / "checkpoint" / "0.safetensors").stat().st_mtime_ns == before


def test_what_a_kill_left_of_a_write_is_swept_away(tmp_path: Path):
    left = tmp_path / "checkpoint" / ".0-abc.part.safetensors"
    left.parent.mkdir()
    left.write_bytes(b"half")
    with session(folder=tmp_path, resume=True):
        train(linear(), Backprop(squared), ArrayBatches(line(), 16), max_epochs=1)
    assert not left.exists()


def test_the_signals_are_given_back(tmp_path: Path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with session(folder=tmp_path):
        train(linear(), Backprop(squared), ArrayBatches(line(), 16), max_epochs=1)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
