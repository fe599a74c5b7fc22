"""Rules: how a step learns, and what *better* means.

A rule owns the optimizers and makes its own backward calls; the loop owns everything around
them: devices, precision, processes, validation, early stopping, checkpoints, resume. A rule sees
the plain model and its process's rows of a batch, and says when an optimizer is about to step:

    loop.backward(loss)                   # a mean over the rows that are here
    loop.average_gradients(optimizer)     # over the processes; nothing to do in one
    optimizer.step()
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

Schedule = Literal["constant", "cosine", "linear"]
"""How the learning rate falls."""


class Loop(Protocol):
    """What a rule may read and call of the loop.

    Attributes:
        step: batches seen in this phase. total_steps: those of all its epochs.
        schedule_steps: over which the learning rate's schedule goes.
        place: of them, in this epoch. epoch_steps: its length. epoch: whole epochs before.
        optimizers: those that the rule made.
    """

    step: int
    total_steps: int
    place: int
    epoch_steps: int
    epoch: int
    optimizers: list[Optimizer]

    @property
    def schedule_steps(self) -> int: ...
    @property
    def process(self) -> int:
        """The number of this process, from 0."""
        ...

    @property
    def processes(self) -> int:
        """How many there are."""
        ...

    @property
    def share(self) -> float:
        """Of a batch's rows, how many this process has; 1.0 in one process alone."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Backward through a loss that is a mean over the rows of this process."""
        ...

    def average_gradients(self, optimizer: Optimizer) -> None:
        """Before an optimizer steps (and before a clip): what its parameters learned in all
        processes.
        """
        ...

    def sum_over_processes(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the processes; no gradient goes through it."""
        ...

    def for_each_row(self, rows: int, draw: Callable[[int], Tensor]) -> Tensor:
        """Random numbers for the `rows` of this process: `draw(n)` makes them for n rows. Several
        processes draw for the whole batch and keep their own, so that a row meets the same ones
        as in a single process.
        """
        ...


class Rule(Protocol):
    """What the loop asks of a rule.

    Attributes:
        monitor: the name, in what `validate` returns, of the score that early stopping watches;
            None for none.
        mode: whether a smaller or a larger score is better.
        settled: whether the model is of its final form, so that its score may count as the best.
    """

    monitor: str | None
    mode: Literal["min", "max"]
    settled: bool

    def optimizers(self, model: nn.Module) -> list[Optimizer]:
        """Make the optimizers of `model`; called once a phase."""
        ...

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Learn from one batch and return scalars, `loss` among them, still on their device."""
        ...

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Score `model` on validation data, or return {}."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What the rule itself must find again after a resume."""
        ...

    def load_state(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        ...


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay acts on a parameter: on matrices, not on biases, norms and scales."""
    return parameter.ndim > 1 and not name.endswith("bias")


def learning_rate_factor(step: int, total: int, *, schedule: Schedule, warmup: float) -> float:
    """The share of the learning rate at `step` of `total`: linear warm-up, then the schedule."""
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    progress = (step - rising) / max(total - rising, 1)
    if schedule == "linear":
        return max(1.0 - progress, 0.0)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


class Backprop:
    """Ordinary training: AdamW on the gradient of a loss.

    Args:
        loss: (model, batch) -> scalar tensor.
        validate: model -> scores; its `monitor` decides early stopping.
        decay: (name, parameter) -> bool, which parameters decay.
        grad_clip: largest norm of the whole gradient.
        accumulate: batches a step of the optimizer; their mean gradient is used.
        rows_at_once: rows of a batch (tensors in a dict) that go through the model at a time; the
            gradients of the parts, weighed by their rows, are the batch's. For a loss that is a
            mean over rows.
    """

    def __init__(
        self,
        loss: Callable[[nn.Module, Any], Tensor],
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        grad_clip: float | None = 1.0,
        validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
        monitor: str | None = "loss",
        mode: Literal["min", "max"] = "min",
        decay: Callable[[str, nn.Parameter], bool] = decays,
        schedule: Schedule = "constant",
        warmup: float = 0.0,
        accumulate: int = 1,
        rows_at_once: int | None = None,
    ) -> None:
        self.loss, self.lr, self.weight_decay, self.grad_clip = loss, lr, weight_decay, grad_clip
        self.validation, self.decay = validate, decay
        self.monitor = monitor if validate is not None else None
        self.mode: Literal["min", "max"] = mode
        self.schedule, self.warmup, self.accumulate = schedule, warmup, accumulate
        self.rows_at_once = rows_at_once
        self.settled = True
        self.parameters: list[nn.Parameter] = []

    def optimizers(self, model: nn.Module) -> list[Optimizer]:
        """One AdamW over `groups`."""
        # the fused step is one kernel over all tensors and the fastest on CPU and CUDA
        return [AdamW(self.groups(model), lr=self.lr, fused=True)]

    def named(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """What learns, by the names that `decay` is asked about."""
        return [(name, p) for name, p in model.named_parameters() if p.requires_grad]

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The parameters; where there is weight decay, those that decay and those that do not."""
        named = self.named(model)
        self.parameters = [parameter for _, parameter in named]
        # a group costs a kernel of its own in each step, so without decay there is one
        decaying = [p for name, p in named if self.weight_decay and self.decay(name, p)]
        chosen = {id(parameter) for parameter in decaying}
        others = [parameter for parameter in self.parameters if id(parameter) not in chosen]
        groups = [
            {"params": decaying, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Forward, backward, and at the end of an accumulation one step of the optimizer."""
        optimizer = loop.optimizers[0]
        place = loop.place % self.accumulate
        first = loop.place - place
        batches = min(self.accumulate, loop.epoch_steps - first)
        loss = self._learn(loop, model, batch, batches)
        if place + 1 == self.accumulate or loop.place + 1 == loop.epoch_steps:
            self.update(loop, optimizer)
        return {"loss": loss}

    def _learn(self, loop: Loop, model: nn.Module, batch: Any, batches: int) -> Tensor:
        """Add a batch's gradient, divided by the number of batches of a step."""
        if self.rows_at_once is None:
            loss = self.loss(model, batch)
            loop.backward(loss if batches == 1 else loss / batches)
            return loss
        rows = len(next(iter(batch.values())))
        losses = []
        for start in range(0, rows, self.rows_at_once):
            stop = min(start + self.rows_at_once, rows)
            part = {name: tensor[start:stop] for name, tensor in batch.items()}
            loss = self.loss(model, part) * ((stop - start) / rows)
            loop.backward(loss if batches == 1 else loss / batches)
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def update(self, loop: Loop, optimizer: Optimizer) -> None:
        """Average the gradient over the processes, then `take_step`."""
        loop.average_gradients(optimizer)
        self.take_step(loop, optimizer)

    def take_step(self, loop: Loop, optimizer: Optimizer) -> None:
        """Clip, set the learning rate, step, and clear the gradient."""
        if self.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.grad_clip, foreach=True)
        if self.schedule != "constant" or self.warmup:
            factor = learning_rate_factor(
                loop.step, loop.schedule_steps, schedule=self.schedule, warmup=self.warmup
            )
            for group in optimizer.param_groups:
                group["lr"] = self.lr * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """The scores on validation data, in eval mode."""
        if self.validation is None:
            return {}
        model.eval()
        try:
            return self.validation(model)
        finally:
            model.train()

    def state(self) -> dict[str, Tensor]:
        """Nothing: weights and optimizers are the loop's to keep."""
        return {}

    def load_state(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """Nothing to find again."""
