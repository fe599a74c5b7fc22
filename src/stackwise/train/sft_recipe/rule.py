"""The step: the mean over the learned tokens of the *effective* batch, whatever its rows are.

    L_B = 1 / T_B  sum over samples i, learned tokens t of  -log p(x_it | x_i,<t)

T_B counts the learned tokens of all rows on all processes. A mean of the rows' means would weigh
the tokens of short rows more, and the gradient would depend on how the samples were laid out; the
sum over T_B does not: micro-batches, packing, padding and ranks leave it as it is.

The norm of the gradient is recorded before it is clipped: it is what the paper watches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import TrainingError
from stackwise.tasks.instructions.encode import IGNORED, Encoded
from stackwise.tasks.instructions.packing import (
    EffectiveBatch,
    call,
    effective_batch,
    summed_loss,
)
from stackwise.training.batches import epoch_generator
from stackwise.training.distribution.sharding import whole
from stackwise.training.rules import Backprop, Loop

COLUMNS = ("samples", "loss", "grad_norm", "lr")
"""What the curve holds of each step."""


class SampleBatches:
    """Samples in a new order each epoch, `batch_size` of them a step of the optimizer."""

    def __init__(
        self,
        samples: Sequence[Encoded],
        batch_size: int,
        *,
        most_tokens: int = 2048,
        packed: bool = True,
        pad: int = 0,
        seed: int = 0,
    ) -> None:
        if not samples:
            raise TrainingError("there are no training samples")
        self.samples, self.batch_size, self.seed = samples, min(batch_size, len(samples)), seed
        self.most_tokens, self.packed, self.pad = most_tokens, packed, pad

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch_size)

    def epoch(self, index: int, start: int = 0) -> Iterator[EffectiveBatch]:
        """The effective batches of epoch `index` from step `start` on."""
        generator = epoch_generator(self.seed, index)
        order = torch.randperm(len(self.samples), generator=generator).tolist()
        for first in range(start * self.batch_size, len(order), self.batch_size):
            picked = [self.samples[i] for i in order[first : first + self.batch_size]]
            yield effective_batch(
                picked, most_tokens=self.most_tokens, packed=self.packed, pad=self.pad
            )


class TokenMean(Backprop):
    """Training on effective batches.

    Attributes:
        curve: a row a step: samples seen, loss, gradient norm before clipping, learning rate.
    """

    def __init__(
        self,
        *,
        validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
        seen: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(_no_loss, validate=validate, **settings)
        self.seen = seen
        self.curve: list[list[float]] = []

    def step(self, loop: Loop, model: nn.Module, batch: EffectiveBatch) -> dict[str, Tensor]:
        """All rows of an effective batch, then one step of the optimizer."""
        optimizer = loop.optimizers[0]
        total = loop.sum_over_processes(
            effective_gradient(
                model, batch, loop.backward, device=next(model.parameters()).device,
                process=loop.process, processes=loop.processes,
            )
        )  # fmt: skip
        loop.average_gradients(optimizer)
        learned = [p.grad for p in self.parameters if p.grad is not None]
        norm = whole(nn.utils.get_total_norm(learned))
        self.take_step(loop, optimizer)
        self.seen += batch.samples
        rate = optimizer.param_groups[0]["lr"]
        self.curve.append([float(self.seen), float(total), float(norm), float(rate)])
        return {"loss": total, "grad_norm": norm}

    def state(self) -> dict[str, Tensor]:
        """The curve so far, and how many samples were seen."""
        rows = torch.tensor(self.curve, dtype=torch.float64).view(-1, len(COLUMNS))
        return {"curve": rows, "seen": torch.tensor(self.seen)}

    def load_state(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.curve, self.seen = state["curve"].tolist(), int(state["seen"])


def effective_gradient(
    model: nn.Module,
    batch: EffectiveBatch,
    backward: Callable[[Tensor], None],
    *,
    device: torch.device | str = "cpu",
    process: int = 0,
    processes: int = 1,
) -> Tensor:
    """Add the gradient of an effective batch's mean loss to the parameters, row by row.

    Of several processes each takes its share of the rows. Their gradients are averaged afterwards,
    so that each multiplies its part by their number; one that has no row left runs a row from
    which nothing is learned, since all must go backward equally often.

    Returns:
        this process's part of the loss.
    """
    rows = list(batch.rows)
    while len(rows) % processes:
        rows.append({**rows[0], "labels": torch.full_like(rows[0]["labels"], IGNORED)})
    parts = []
    for row in rows[process::processes]:
        here = {name: tensor.to(device) for name, tensor in row.items()}
        loss = summed_loss(call(model, here), here["labels"]) / batch.tokens
        backward(loss * processes)
        parts.append(loss.detach())
    return torch.stack(parts).sum()


def _no_loss(model: nn.Module, batch: Any) -> Tensor:
    raise TrainingError("an effective batch has no single loss; its rows are learned one by one")
