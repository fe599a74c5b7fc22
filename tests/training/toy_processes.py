"""Toy fits that torch's launcher can run in several processes; argument: the folder to write."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from stackwise import processes
from stackwise.errors import Interrupted, TrainingError
from stackwise.files import write_tensors
from stackwise.tasks.table.baselines.mlp import MLP
from stackwise.training import ArrayBatches, Backprop, Loop, Trained, loop, session, train

ROWS = 66
"""In batches of 13 each part has other rows, and the last batch has one row alone."""


def rows(*, pictures: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 3, generator=generator)
    y = x.sum(1, keepdim=True)
    if pictures:
        x = 5 + torch.randn(ROWS, 3, 6, 6, generator=generator) + x[:, :, None, None]
    return {"x": x, "y": y}


def squared(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return (model(batch["x"]) - batch["y"]).square().mean()


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


def learn(
    model: nn.Module, rule: Backprop, *, size: int = 13, pictures: bool = False, epochs: int = 2
) -> Trained:
    data = rows(pictures=pictures)
    rule.validation = lambda judged: {"loss": float(squared(judged, data))}
    rule.monitor = "loss"
    return train(model, rule, ArrayBatches(data, size), max_epochs=epochs, device="cpu")


def divided() -> Trained:
    return learn(small(), Backprop(squared, lr=0.05))


def accumulated() -> Trained:
    return learn(small(), Backprop(squared, lr=0.05, accumulate=4, rows_at_once=5))


class Shifted(nn.Module):
    """A line and a buffer that moves it, which begin with what they are given."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.line = nn.Linear(3, 1)
        self.register_buffer("shift", torch.tensor(0.5 + seed))
        self.register_buffer("on", torch.tensor(seed == 0))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.line(x) + self.shift * self.on
        return output


def begun_apart() -> Trained:
    """Each process would begin with weights and buffers of its own."""
    return learn(Shifted(int(os.environ.get("RANK", "0"))), Backprop(squared, lr=0.05))


class Branches(nn.Module):
    """A weight that rows with a positive first number alone meet, and one that no row meets."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line, self.positive, self.never = (nn.Linear(3, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.line(x)
        chosen = x[:, :1] > 1.0
        if bool(chosen.any()):
            output = output + self.positive(x) * chosen
        return output


def branched() -> Trained:
    """Parameters without a gradient in some processes or in all; weight decay pulls at others."""
    return learn(Branches(), Backprop(squared, lr=0.05, weight_decay=0.5), size=6)


class Rivals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.maker, self.critic = nn.Linear(3, 1), nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.maker(x)
        return output


class Rivalry(Backprop):
    """Two optimizers that step in turn; the second's backward pass goes through the first's."""

    def optimizers(self, model: nn.Module) -> list[torch.optim.Optimizer]:
        assert isinstance(model, Rivals)
        return [
            torch.optim.SGD(model.critic.parameters(), lr=0.1, momentum=0.9),
            torch.optim.SGD(model.maker.parameters(), lr=0.1, momentum=0.9),
        ]

    def step(self, loop: Loop, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        assert isinstance(model, Rivals)
        made = model(batch["x"])
        judged = (model.critic(made.detach()) - batch["y"]).square().mean()
        fooled = model.critic(made).sigmoid().mean()
        for optimizer, loss in zip(loop.optimizers, (judged, fooled), strict=True):
            optimizer.zero_grad(set_to_none=True)
            if loss is fooled:  # the critic has moved since its answer
                loss = model.critic(made).sigmoid().mean()
            loop.backward(loss)
            loop.average_gradients(optimizer)
            optimizer.step()
        return {"loss": judged, "fooled": fooled}


def rivals() -> Trained:
    return learn(Rivals(), Rivalry(squared))


class Noisy(Backprop):
    """Noise for each row, and a choice that all rows share."""

    def step(self, loop: Loop, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = batch["x"]
        noise = loop.for_each_row(len(x), lambda count: torch.randn(count, 3))
        kept = torch.randperm(3)[:2]
        noised = torch.zeros_like(x)
        noised[:, kept] = (x + 0.5 * noise)[:, kept]
        return super().step(loop, model, {**batch, "x": noised})


def noisy() -> Trained:
    return learn(small(), Noisy(squared, lr=0.05))


def pictured(momentum: float | None = 0.1, *, affine: bool = True, groups: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, groups, 3, bias=False),  # which a batch norm would take away
        nn.BatchNorm2d(groups, momentum=momentum, affine=affine),
        nn.ReLU(),
        nn.Flatten(2),
        nn.BatchNorm1d(groups),
        nn.Flatten(),
        nn.Linear(groups * 16, 1),
    )


def normed() -> Trained:
    return learn(pictured(), Backprop(squared, lr=0.01), size=11, pictures=True)


def normed_otherwise() -> Trained:
    """Averages of all batches, no weights, one channel."""
    model = pictured(None, affine=False, groups=1)
    return learn(model, Backprop(squared, lr=0.01), size=11, pictures=True)


FITS: dict[str, Callable[[], Trained]] = {
    one.__name__: one
    for one in (
        divided, accumulated, begun_apart, branched, rivals, noisy, normed, normed_otherwise
    )
}  # fmt: skip


class Stopping(Backprop):
    """Asks to stop in the middle of an accumulation."""

    def step(self, loop: Loop, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if loop.step == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().step(loop, model, batch)


def stopped(folder: Path) -> Trained:
    """33 steps, told to stop within the third accumulation of 7, and then to go on."""
    options = {"lr": 0.05, "accumulate": 7}
    try:
        with session(folder=folder):
            learn(small(), Stopping(squared, **options), size=2, epochs=1)
    except Interrupted:
        with session(folder=folder, resume=True):
            return learn(small(), Backprop(squared, **options), size=2, epochs=1)
    raise AssertionError("the fit was not interrupted")


def not_stopped() -> Trained:
    return learn(small(), Backprop(squared, lr=0.05, accumulate=7), size=2, epochs=1)


class Forgetful(Backprop):
    """Steps its optimizer on what one process learned."""

    def step(self, loop: Loop, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        loss = self.loss(model, batch)
        loop.backward(loss)
        loop.optimizers[0].step()
        return {"loss": loss}


def kept_in_parts(folder: Path) -> None:
    """Weights in parts, kept after each epoch, though none after the first is better."""
    model = MLP(n_numeric=3, cardinalities=[], n_outputs=1, width=8, n_blocks=4, dropout=0.0)
    none = torch.zeros(ROWS, 0, dtype=torch.int64)

    def of_blocks(learned: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return (learned(batch["x"], none[: len(batch["x"])]) - batch["y"]).square().mean()

    scores = iter([1.0, 2.0, 3.0])

    def validate(judged: nn.Module) -> dict[str, float]:
        return {"loss": next(scores) + 0.0 * float(of_blocks(judged, rows()))}

    rule = Backprop(of_blocks, validate=validate)
    os.environ["STACKWISE_SHARD"] = "1"
    loop.EPOCH_PAUSE = loop.WRITE_PAUSE = -1.0
    with session(folder=folder):
        train(model, rule, ArrayBatches(rows(), 22), max_epochs=3, device="cpu")


def reaching(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """A loss that reads a weight by itself."""
    assert isinstance(model, nn.Sequential)
    first = batch["x"] @ model[0].weight.T
    return squared(model, batch) + first.square().mean()


class OtherNorm(nn.BatchNorm2d):
    """A batch norm that may have a forward pass of its own."""


def refusals() -> str:
    """What is said of a rule that forgets to average, and of statistics that cannot be gathered."""
    said = []
    strange = nn.Sequential(nn.Conv2d(3, 2, 3), OtherNorm(2), nn.Flatten(), nn.Linear(32, 1))
    for model, rule, pictures in (
        (small(), Forgetful(squared), False), (strange, Backprop(squared), True)
    ):  # fmt: skip
        try:
            learn(model, rule, pictures=pictures)
        except TrainingError as error:
            said.append(str(error))
    return "\n".join(said)


def main(folder: Path) -> None:
    made = dict(FITS)
    made["not_stopped"] = not_stopped
    made["stopped"] = lambda: stopped(folder / "stopped")
    for name, fit in made.items():
        place = folder / name
        if name == "stopped":
            trained = fit()
        else:
            with session(folder=place):
                trained = fit()
        if processes.is_first():
            write_tensors(place / "final.safetensors", dict(trained.model.state_dict()))
            kinds = sorted({type(module).__name__ for module in trained.model.modules()})
            (place / "kinds.txt").write_text(" ".join(kinds), encoding="utf-8")
    said = refusals()
    if processes.is_first():
        (folder / "refusals.txt").write_text(said, encoding="utf-8")
    kept_in_parts(folder / "parts")
    try:
        learn(small(), Backprop(reaching))
    except TrainingError as error:
        if processes.is_first():
            (folder / "reached.txt").write_text(str(error), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
    processes.leave()
