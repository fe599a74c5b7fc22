"""The batches of several data sets, side by side."""

from collections.abc import Iterator, Sequence
from typing import Any

from stackwise.training.batches import Batches


class SideBySide:
    """A batch of each data set a step, in a list; an epoch is that of the first.

    The others begin again where they end. What comes depends on (epoch, step) alone.
    """

    def __init__(self, first: Batches, others: Sequence[Batches]) -> None:
        self.first, self.others = first, list(others)

    def __len__(self) -> int:
        return len(self.first)

    def epoch(self, index: int, start: int = 0) -> Iterator[list[Any]]:
        """The batches of epoch `index` from step `start` on."""
        step = index * len(self.first) + start
        beside = [_from(batches, step) for batches in self.others]
        for batch in self.first.epoch(index, start):
            yield [batch, *(next(one) for one in beside)]


def _from(batches: Batches, step: int) -> Iterator[Any]:
    """Epoch after epoch, from a step on, counted from the first epoch's beginning."""
    index, place = divmod(step, len(batches))
    while True:
        yield from batches.epoch(index, place)
        index, place = index + 1, 0
