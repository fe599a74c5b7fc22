"""How a stage learns: the loss, its batches, and the phases of a fit."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from stackwise.build.remote_sensing_sae.network import StackedEncoder
from stackwise.training.batches import ArrayBatches
from stackwise.training.phases import Phase
from stackwise.training.rules import Backprop, Loop

EPS = 1e-7
"""Of Adam, as Keras has it by default."""
BLOCK = 1 << 16
"""Rows that go through the frozen stages at a time."""


def penalty(layers: Sequence[Tensor]) -> Tensor:
    """The activity penalty without its coefficient: sums of magnitudes, a mean over the rows.

    Args:
        layers: (units, B) what each layer gives.
    """
    return torch.cat(list(layers)).abs().sum() / layers[0].shape[1]


def stage_loss(
    network: StackedEncoder, place: int, x: Tensor, activity_l1: float
) -> tuple[Tensor, Tensor]:
    """(mean squared error, weighed penalty) of a stage on its inputs (inputs, B)."""
    back, layers = network.stage(place)(x)
    error = nn.functional.mse_loss(back, x)
    return error, activity_l1 * penalty(layers) if activity_l1 else torch.zeros_like(error)


class StageRule(Backprop):
    """Adam on one stage, the others frozen, or on all together; both terms of the loss are told.

    Args:
        place: of the stage, from 0; None for all.
    """

    def __init__(self, place: int | None, *, activity_l1: float, lr: float, **options: Any) -> None:
        super().__init__(self._total, lr=lr, grad_clip=None, **options)
        self.place, self.activity_l1 = place, activity_l1

    def optimizers(self, model: nn.Module) -> list[Optimizer]:
        """One Adam."""
        return [AdamW(self.groups(model), lr=self.lr, eps=EPS, fused=True)]

    def terms(self, model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """(error, penalty) on a batch (B, inputs); of all stages together their sums. What a stage
        gives back is its input as it is: no gradient goes through the target.
        """
        assert isinstance(model, StackedEncoder)
        x = x.T.contiguous()
        if self.place is not None:
            return stage_loss(model, self.place, x, self.activity_l1)
        errors, penalties = [], []
        for place in range(len(model.stages)):
            back, layers = model.stage(place)(x)
            errors.append(nn.functional.mse_loss(back, x.detach()))
            penalties.append(self.activity_l1 * penalty(layers))
            if place + 1 < len(model.stages):
                x = model.next_inputs(place, x)
        return torch.stack(errors).sum(), torch.stack(penalties).sum()

    def _total(self, model: nn.Module, batch: Any) -> Tensor:
        error, more = self.terms(model, batch["x"])
        return error + more

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """One step of Adam."""
        error, more = self.terms(model, batch["x"])
        loss = error + more
        loop.backward(loss)
        self.update(loop, loop.optimizers[0])
        return {"loss": loss, "error": error.detach(), "penalty": more.detach()}


class StageBatches:
    """What a stage reads, in a new order each epoch. It is made when it is first asked for, once
    the stages before have learned.

    Args:
        x: (n, features). place: of the stage; None for the rows themselves.
    """

    def __init__(
        self, network: StackedEncoder, x: Tensor, place: int | None, batch_size: int, seed: int
    ) -> None:
        self.network, self.x, self.place = network, x, place
        self.batch_size, self.seed = batch_size, seed
        self._made: ArrayBatches | None = None

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of epoch `index` from step `start` on."""
        if self._made is None:
            if self.place is not None and index == start == 0:
                self.network.fit_scale(self.place, self.x.T.to(self._device))
            made = {"x": self._inputs()}
            self._made = ArrayBatches(made, self.batch_size, seed=self.seed)
        yield from self._made.epoch(index, start)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    @torch.no_grad()
    def _inputs(self) -> Tensor:
        if not self.place:
            return self.x
        parts = [
            self.network.inputs_of(self.place, part.T.to(self._device)).T.cpu()
            for part in self.x.split(BLOCK)
        ]
        return torch.cat(parts)


def phases_of(
    network: StackedEncoder,
    x: Tensor,
    *,
    epochs: Sequence[int],
    batch_size: Sequence[int],
    joint_epochs: int,
    activity_l1: float,
    lr: float,
    seed: int,
) -> list[Phase]:
    """A phase a stage, and one of all together where that is wanted. Under a limit of time each has
    the share of its steps.
    """
    plan: list[tuple[str, int | None, int, int]] = [
        (f"stage {place + 1}", place, count, size)
        for place, (count, size) in enumerate(zip(epochs, batch_size, strict=True))
    ]
    if joint_epochs:
        plan.append(("all stages", None, joint_epochs, batch_size[-1]))
    steps = [count * -(-len(x) // size) for _, _, count, size in plan]
    made = []
    for number, (name, place, count, size) in enumerate(plan):
        made.append(
            Phase(
                name, StageRule(place, activity_l1=activity_l1, lr=lr),
                StageBatches(network, x, place, size, seed * len(plan) + number), count,
                start=_starter(place), keep="last", ends_at=sum(steps[: number + 1]) / sum(steps),
            )
        )  # fmt: skip
    return made


def _starter(place: int | None) -> Any:
    def start(model: nn.Module) -> nn.Module:
        assert isinstance(model, StackedEncoder)
        return model.learning(place)

    return start
