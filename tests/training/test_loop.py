"""The loop: what a seed fixes, when it stops, what a step does."""

import math
import time

import pytest
import torch
from torch import Tensor, nn
from toy_line import line, linear, same, squared
from toy_phases import Tower, fit

from stackwise.errors import TrainingError
from stackwise.learning.trainable import trainable
from stackwise.training import (
    ArrayBatches,
    Backprop,
    Loop,
    session,
    train,
)
from stackwise.training.rules import learning_rate_factor


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


def test_a_loss_that_is_not_a_number_names_its_step():
    def bad(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        calls.append(1)
        return squared(model, batch) * (math.nan if len(calls) == 3 else 1.0)

    calls: list[int] = []
    with pytest.raises(TrainingError, match=r"the loss is nan at step 3 \(epoch 1\)"):
        train(linear(), Backprop(bad), ArrayBatches(line(), 16), max_epochs=2)


def test_a_gradient_that_is_not_a_number_is_found_without_validation():
    class Spoil(torch.autograd.Function):
        @staticmethod
        def forward(ctx, loss: Tensor) -> Tensor:
            return loss.clone()

        @staticmethod
        def backward(ctx, gradient: Tensor) -> Tensor:
            return gradient * math.nan

    def bad(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        calls.append(1)
        loss = squared(model, batch)
        return Spoil.apply(loss) if len(calls) == 4 else loss

    calls: list[int] = []
    with pytest.raises(TrainingError, match=r"weights are no longer numbers at step 4 \(epoch 1\)"):
        train(linear(), Backprop(bad), ArrayBatches(line(), 16), max_epochs=1)


def test_large_weights_are_still_numbers():
    model = linear()
    with torch.no_grad():
        model.weight.fill_(1e30)
    rule = Backprop(lambda m, b: m.bias.sum())
    assert train(model, rule, ArrayBatches(line(), 64), max_epochs=1).stopped == "epochs"


def test_a_score_that_is_watched_but_not_returned_is_named():
    rule = Backprop(squared, validate=lambda model: {"rmse": 1.0})
    with pytest.raises(TrainingError, match=r"watches 'loss', but .* returned \['rmse'\]"):
        train(linear(), rule, ArrayBatches(line(), 16), max_epochs=1)


def test_a_fit_of_no_epochs_is_refused():
    with pytest.raises(TrainingError, match="max_epochs must be at least 1, got 0"):
        train(linear(), Backprop(squared), ArrayBatches(line(), 16), max_epochs=0)


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


@pytest.mark.parametrize("size", [1, 7, 16, 100])
def test_rows_in_parts_give_the_gradient_of_the_whole(size: int):
    whole, parts = (
        train(
            linear(),
            Backprop(squared, lr=0.1, rows_at_once=rows),
            ArrayBatches(line(), 20, shuffle=False),  # the last batch is shorter
            max_epochs=3,
        )
        for rows in (None, size)
    )
    assert torch.allclose(whole.model.weight, parts.model.weight, atol=1e-6)
    one, other = ([line["metrics"]["train_loss"] for line in t.history] for t in (whole, parts))
    assert one == pytest.approx(other, abs=1e-6)


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


def test_without_weight_decay_there_is_one_group():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    (optimizer,) = Backprop(squared).optimizers(model)
    assert [len(group["params"]) for group in optimizer.param_groups] == [4]


def test_weight_decay_is_decoupled_from_the_gradient():
    model = linear()
    before = model.weight.detach().clone()
    rule = Backprop(lambda m, b: 0.0 * squared(m, b), lr=0.1, weight_decay=0.5)
    train(model, rule, ArrayBatches(line(), 64), max_epochs=1)
    assert torch.allclose(model.weight, before * (1 - 0.1 * 0.5))


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


def test_bfloat16_is_asked_for_by_fit_and_does_not_stay():
    types = []

    def seen(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        output = model(batch["x"])
        types.append(output.dtype)
        return (output - batch["y"]).square().mean()

    for precision in ("bfloat16", "float32"):
        trained = train(
            linear(), Backprop(seen), ArrayBatches(line(), 64), max_epochs=1, precision=precision
        )
        assert trained.model.weight.dtype == torch.float32
    assert types == [torch.bfloat16, torch.float32]


def test_the_time_left_is_that_of_the_limit_where_it_comes_first():
    events = []
    with session(on_event=events.append, time_limit=30.0):
        train(linear(), Backprop(squared), ArrayBatches(line(), 1), max_epochs=2)
    assert events[-1]["seconds_left"] == 0.0
    assert all(0 <= event["seconds_left"] <= 30.0 for event in events)
