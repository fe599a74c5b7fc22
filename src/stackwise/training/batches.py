"""Batches of in-memory data, taken by index and with no worker processes."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from stackwise.errors import TrainingError


class Batches(Protocol):
    """What the loop asks of training data."""

    def __len__(self) -> int:
        """Steps an epoch."""
        ...

    def epoch(self, index: int, start: int = 0) -> Iterator[Any]:
        """The batches of epoch `index` from step `start` on; the same each time it is asked."""
        ...


def epoch_generator(seed: int, index: int) -> torch.Generator:
    """The random numbers of an epoch's order: they depend on `(seed, epoch)` alone."""
    return torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)


def for_all(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Tensors of a batch that are no rows of it: of several processes each gets all of them."""
    return MappingProxyType(dict(tensors))


class ArrayBatches:
    """Rows of tensors in a new order each epoch.

    The order depends on `(seed, epoch)` alone, so that a resumed run finds its place by index.

    Args:
        tensors: by name, each of shape (rows, ...).
        batch_size: rows a step; the last batch of an epoch may be smaller.
        orders: 1, or k for k different orders at once: each batch then has the shape
            (batch_size, k, ...).
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        orders: int = 1,
    ) -> None:
        sizes = {name: len(tensor) for name, tensor in tensors.items()}
        if not sizes or len(set(sizes.values())) != 1:
            raise TrainingError(f"batches need tensors of one length, got {sizes}")
        self.tensors = dict(tensors)
        self.rows = next(iter(sizes.values()))
        if self.rows == 0:
            raise TrainingError("there are no training rows")
        self.batch_size, self.seed, self.shuffle, self.orders = batch_size, seed, shuffle, orders

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def order(self, index: int) -> Tensor:
        """(rows,) int64, or (rows, orders): the order of epoch `index`."""
        if not self.shuffle:
            rows = torch.arange(self.rows)
            return rows if self.orders == 1 else rows[:, None].expand(-1, self.orders)
        generator = epoch_generator(self.seed, index)
        orders = [torch.randperm(self.rows, generator=generator) for _ in range(self.orders)]
        return orders[0] if self.orders == 1 else torch.stack(orders, dim=1)

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of epoch `index` from step `start` on."""
        order = self.order(index)
        for first in range(start * self.batch_size, self.rows, self.batch_size):
            rows = order[first : first + self.batch_size]
            yield {name: tensor[rows] for name, tensor in self.tensors.items()}


class ListBatches:
    """Ready-made batches (dicts, tuples), in a new order each epoch."""

    def __init__(self, batches: list[Any], *, seed: int = 0, shuffle: bool = True) -> None:
        if not batches:
            raise TrainingError("there are no training batches")
        self.batches, self.seed, self.shuffle = batches, seed, shuffle

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, index: int, start: int = 0) -> Iterator[Any]:
        """The batches of epoch `index` from step `start` on."""
        order = torch.arange(len(self.batches))
        if self.shuffle:
            order = torch.randperm(len(self.batches), generator=epoch_generator(self.seed, index))
        for position in order[start:].tolist():
            yield self.batches[position]


class StepBatches:
    """Batches in epochs of so many steps, whatever their own epochs are: for a rule that looks at
    its validation score every so often.

    Args:
        batches: gone through in their own order, again and again. steps: those of an epoch here.
    """

    def __init__(self, batches: Batches, steps: int) -> None:
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return self.steps

    def epoch(self, index: int, start: int = 0) -> Iterator[Any]:
        """The batches of epoch `index` from step `start` on."""
        whole, place = divmod(index * self.steps + start, len(self.batches))
        left = self.steps - start
        while left > 0:
            for batch in self.batches.epoch(whole, place):
                yield batch
                left -= 1
                if left == 0:
                    return
            whole, place = whole + 1, 0
