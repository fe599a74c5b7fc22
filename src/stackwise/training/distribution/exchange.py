"""What the processes of a fit tell each other: weights to begin with, gradients, sums, decisions.

Each process holds the plain model and learns from its rows of a batch. Its loss is a mean over
these rows and counts by their share of the batch's, so that

    gradient of the batch = sum over processes p of  share_p * gradient of the mean loss of p

is what one process would have learned from, however the rows divide. The loop does this between a
rule's backward passes and its optimizer's step; no wrapper lies around the model.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.optim import Optimizer

from stackwise.errors import TrainingError
from stackwise.training.distribution.devices import part_of_rows, rows_of

BUCKET = 2**24
"""Numbers that go over the wire at a time: 64 MiB in float32."""


class Exchange:
    """The processes of a fit; where there is one alone, everything here is what it says itself.

    Attributes:
        process: the number of this one. processes: how many there are. several: more than one.
        in_parts: the model lies in parts over them, and reduces its gradients by itself.
        share: of the rows of the batch that is learned, how many this process has.
        waiting: gradients were made that the processes have not averaged yet.
    """

    def __init__(self, accelerator: Any, *, in_parts: bool) -> None:
        self.process: int = accelerator.process_index
        self.processes: int = accelerator.num_processes
        self.several = self.processes > 1
        self.in_parts = in_parts
        self.device: torch.device = accelerator.device
        self.waiting = False
        self.share = 1.0
        self._rows: int | None = None  # of the whole batch
        self._own = slice(None)  # of these rows, this process's
        self._averaged: set[int] = set()

    def begin(self, model: nn.Module) -> None:
        """Give every process the weights and buffers of the first."""
        if self.several:
            self._copy_first([*model.parameters(), *model.buffers()])

    def settle(self, model: nn.Module) -> None:
        """Give every process the buffers of the first: what is judged is the same model."""
        if self.several:
            self._copy_first(list(model.buffers()))

    def divide(self, batch: Any) -> None:
        """Note which rows of the batch that comes are this process's."""
        if not self.several:
            return
        self._rows = rows_of(batch)
        if self._rows is None:  # not of rows: a rule divides it by itself
            self._own, self.share = slice(None), 1 / self.processes
        else:
            self._own, self.share = part_of_rows(self._rows, self.process, self.processes)

    def for_each_row(self, rows: int, draw: Callable[[int], Tensor]) -> Tensor:
        """`draw(rows)`, of which each of several processes keeps those of its own rows."""
        return draw(rows) if self._rows is None else draw(self._rows)[self._own]

    def weighed(self, loss: Tensor) -> Tensor:
        """What to go backward through: the mean of the processes' is the loss of the batch."""
        self.waiting = True
        self._averaged.clear()
        weight = self.share * self.processes
        return loss if weight == 1 else loss * weight

    def counted(self, scalars: dict[str, Tensor]) -> dict[str, Tensor]:
        """A step's scalars as they count in the mean over processes: as the loss does."""
        weight = self.share * self.processes
        if weight == 1:
            return scalars
        return {name: value.detach() * weight for name, value in scalars.items()}

    def guard(self, optimizers: Iterable[Optimizer]) -> None:
        """Refuse the steps of optimizers whose gradients the processes have not averaged."""
        if not self.several:
            return

        def refuse(optimizer: Optimizer, *_: Any) -> None:
            if id(optimizer) not in self._averaged:
                raise TrainingError(
                    f"a {type(optimizer).__name__} was stepped in {self.processes} processes "
                    "before loop.average_gradients(optimizer) was called; call it after the "
                    "backward passes"
                )

        for optimizer in optimizers:
            optimizer.register_step_pre_hook(refuse)

    def average(self, optimizer: Optimizer) -> None:
        """Average the gradients of the parameters that `optimizer` steps over the processes.

        A parameter that took part in some processes alone counts as zero in the others; one that
        took part in none keeps no gradient.
        """
        if not self.several:
            return
        self.waiting = False
        self._averaged.add(id(optimizer))
        if not self.in_parts:
            self._average(optimizer)

    @torch.no_grad()
    def _average(self, optimizer: Optimizer) -> None:
        for learned in _buckets(p for group in optimizer.param_groups for p in group["params"]):
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
            # at the end, one number a parameter: in how many processes it has a gradient
            took_part = gradients[0].new_tensor([float(p.grad is not None) for p in learned])
            flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), took_part])
            distributed.all_reduce(flat)
            *means, counts = (flat / self.processes).split(
                [*(p.numel() for p in learned), len(learned)]
            )
            missing = [place for place, p in enumerate(learned) if p.grad is None]
            # read where it matters only: reading waits for the device
            elsewhere = counts.tolist() if missing else []
            for place, (parameter, gradient, mean) in enumerate(
                zip(learned, gradients, means, strict=True)
            ):
                gradient.copy_(mean.view_as(gradient))
                if parameter.grad is None and elsewhere[place] > 0:
                    parameter.grad = gradient

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the processes; no gradient goes through it."""
        if not self.several:
            return tensor
        total = tensor.detach().clone()
        distributed.all_reduce(total)
        return total

    def means(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """The mean of each number over the processes, which have the same names."""
        if not self.several or not numbers:
            return dict(numbers)
        mine = torch.tensor(list(numbers.values()), dtype=torch.float64, device=self.device)
        return dict(zip(numbers, (self.sum(mine) / self.processes).tolist(), strict=True))

    def agree(self, *flags: bool) -> list[bool]:
        """Each flag, true where it is true in any process: all stop at one step."""
        if not self.several:
            return list(flags)
        mine = torch.tensor(flags, dtype=torch.int32, device=self.device)
        return [bool(count) for count in self.sum(mine).tolist()]

    @torch.no_grad()
    def _copy_first(self, tensors: list[Tensor]) -> None:
        for group in _buckets(tensors):
            # as bytes: not every type goes over every wire
            flat = torch.cat([tensor.reshape(-1) for tensor in group]).view(torch.uint8)
            distributed.broadcast(flat, src=0)
            parts = flat.view(group[0].dtype).split([tensor.numel() for tensor in group])
            for tensor, part in zip(group, parts, strict=True):
                tensor.copy_(part.view_as(tensor))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one type and device together, about `BUCKET` numbers at a time."""
    kinds: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        kind = (tensor.dtype, tensor.device)
        bucket = kinds.setdefault(kind, [])
        bucket.append(tensor)
        if sum(t.numel() for t in bucket) >= BUCKET:
            yield kinds.pop(kind)
    yield from kinds.values()
