"""The loop: what a seed fixes, what a kill does not lose, when it stops."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toy_phases import Tower, fit

from stackwise.errors import Interrupted, RunError, TrainingError
from stackwise.files import read_tensors
from stackwise.training import (
    ArrayBatches,
    Backprop,
    Loop,
    Trained,
    session,
    train,
    trainable,
)
from stackwise.training.rules import learning_rate_factor


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def squared(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return (model(batch["x"]) - batch["y"]).square().mean()


def line(rows: int = 64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, generator=generator)
    return {"x": x, "y": x.sum(1, keepdim=True)}


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def same(a: Trained, b: Trained) -> bool:
    left, right = a.model.state_dict(), b.model.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def test_a_seed_fixes_a_fit_bit_for_bit_and_leaves_the_global_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = train(linear(), Backprop(squared), ArrayBatches(line(), 16), max_epochs=2)
    torch.manual_seed(5)
    second = train(linear(), Backprop(squared), ArrayBatches(line(), 16), max_epochs=2)
    assert same(first, second)
    torch.manual_seed(5)
    model = nn.Identity()
    model.weight = nn.Parameter(torch.ones(1))
    train(model, Backprop(lambda m, b: m.weight.sum()), ArrayBatches(line(), 16), max_epochs=1)
    assert torch.equal(torch.rand(1), expected)


def test_the_second_phase_goes_on_from_a_deeper_model():
    trained = fit()
    assert isinstance(trained.model, Tower)
    assert len(trained.model.hidden) == 2
    assert [row["phase"] for row in trained.history] == ["short"] * 8 + ["deep"] * 8
    losses = [row["metrics"]["validation_loss"] for row in trained.history]
    assert losses[-1] < losses[0]


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


def test_a_loss_that_is_not_a_number_names_its_step():
    def bad(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        calls.append(1)
        return squared(model, batch) * (math.nan if len(calls) == 3 else 1.0)

    calls: list[int] = []
    with pytest.raises(TrainingError, match=r"the loss is nan at step 3 \(epoch 1\)"):
        train(linear(), Backprop(bad), ArrayBatches(line(), 16), max_epochs=2)


def test_early_stopping_restores_the_best_weights():
    scores = iter([3.0, 1.0, 2.0, 1.0, 5.0])
    kept = []

    def validate(model: nn.Module) -> dict[str, float]:
        kept.append(model.weight.detach().clone())
        return {"loss": next(scores)}

    rule = Backprop(squared, validate=validate)
    trained = train(linear(), rule, ArrayBatches(line(), 16), max_epochs=9, patience=3)
    assert (trained.best_epoch, trained.best_score, trained.stopped) == (2, 1.0, "patience")
    assert torch.equal(trained.model.weight, kept[1])
    assert len(kept) == 5


def test_mode_max_keeps_the_largest_score():
    scores = iter([0.1, 0.9, 0.5])
    rule = Backprop(squared, validate=lambda m: {"auc": next(scores)}, monitor="auc", mode="max")
    assert train(linear(), rule, ArrayBatches(line(), 64), max_epochs=3).best_epoch == 2


@pytest.mark.parametrize("size", [8, 16])
def test_accumulated_batches_give_the_gradient_of_the_whole(size: int):
    whole = train(
        linear(), Backprop(squared, lr=0.1), ArrayBatches(line(), 64, shuffle=False), max_epochs=3
    )
    parts = train(
        linear(),
        Backprop(squared, lr=0.1, accumulate=64 // size),
        ArrayBatches(line(), size, shuffle=False),
        max_epochs=3,
    )
    assert torch.allclose(whole.model.weight, parts.model.weight, atol=1e-6)


def test_the_schedules_are_exact():
    def factors(schedule: str, warmup: float) -> list[float]:
        return [
            learning_rate_factor(step, 10, schedule=schedule, warmup=warmup) for step in range(10)
        ]

    assert factors("constant", 0.0) == [1.0] * 10
    assert factors("constant", 0.2)[:3] == [0.5, 1.0, 1.0]
    cosine = factors("cosine", 0.2)
    assert cosine[:3] == [0.5, 1.0, 1.0]
    assert cosine[6] == pytest.approx(0.5)
    assert cosine[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))


def test_the_gradient_is_clipped_to_its_norm():
    norms = []

    class Watching(Backprop):
        def update(self, loop: Loop, optimizer: torch.optim.Optimizer) -> None:
            super().update(loop, optimizer)
            state = optimizer.state_dict()["state"]
            norms.append(math.sqrt(sum(float(s["exp_avg"].square().sum()) for s in state.values())))

    train(linear(), Watching(squared, grad_clip=1e-3), ArrayBatches(line(), 64), max_epochs=1)
    assert norms[0] == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_only_matrices_decay():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    (optimizer,) = Backprop(squared, weight_decay=0.1).optimizers(model)
    groups = [(group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]
    assert groups == [(0.1, 1), (0.0, 3)]


def test_k_orders_at_once_are_k_permutations():
    rows = torch.arange(10)
    batches = list(ArrayBatches({"x": rows}, 4, orders=3).epoch(0))
    assert [batch["x"].shape for batch in batches] == [(4, 3), (4, 3), (2, 3)]
    for column in torch.cat([batch["x"] for batch in batches]).T:
        assert sorted(column.tolist()) == rows.tolist()


def test_a_time_limit_ends_training_with_what_there_is():
    def slow(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        time.sleep(0.02)
        return squared(model, batch)

    trained = train(
        linear(), Backprop(slow), ArrayBatches(line(), 1), max_epochs=50, time_limit=0.1
    )
    assert trained.stopped == "time"
    assert trained.steps < 64


def test_a_bad_device_is_refused_by_name():
    with pytest.raises(ValueError, match="device must be one of .*cpu.*, got 'tpu'"):
        train(linear(), Backprop(squared), ArrayBatches(line(), 64), max_epochs=1, device="tpu")


def test_trainable_takes_tensors_with_a_loss_of_the_output_and_batches_with_labels():
    x, y = line()["x"], line()["y"]
    joined = trainable(linear(), (x, y), loss=nn.functional.mse_loss)
    batch = next(iter(joined.batches.epoch(0)))
    assert joined.loss(joined.model, batch).ndim == 0
    with pytest.raises(ValueError, match="give loss="):
        trainable(linear(), (x, y))
    with pytest.raises(ValueError, match="give it data"):
        trainable(linear(), None)
