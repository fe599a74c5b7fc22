"""What the open contexts of a Stack ask for, and what the list of blocks then holds.

A block that runs at another place, or that something is put on, stands in the list as an
occurrence (occurrence.py); every other one stands there itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from stackwise.stack.discovery import BlockList
from stackwise.stack.occurrence import (
    knows_its_place,
    needs_bias_table,
    occurrence,
    share_bias_table,
)
from stackwise.stack.stream import Stream
from stackwise.stack.watch import Around, Intervention, note_when_run, put_around, watch


@dataclass(frozen=True)
class Arrangement:
    """The parts that each open context has added.

    Attributes:
        order: which block runs at each place.
        interventions, streams, around: what changes, sees or stands around the blocks.
        ends_that_ran: where the first and the last place of a path are noted, once each has run.
    """

    order: tuple[int, ...]
    interventions: tuple[Intervention, ...] = ()
    streams: tuple[Stream, ...] = ()
    around: tuple[Around, ...] = ()
    ends_that_ran: list[int] | None = None

    @property
    def watched(self) -> bool:
        """Whether something is put on the blocks, so that none may run as itself."""
        return bool(self.interventions or self.streams or self.around)

    def running(self, blocks: Sequence[nn.Module]) -> list[nn.Module]:
        """The module that runs at each place: the block itself where it can be, or its twin."""
        order, noted = self.order, self.ends_that_ran
        bias = needs_bias_table(blocks[order[0]], blocks[0])
        ends = {0, len(order) - 1} if noted is not None or bias else set()
        running: list[nn.Module] = []
        for place, index in enumerate(order):
            block = blocks[index]
            displaced = place != index and knows_its_place(block)
            if displaced or self.watched or place in ends:
                block = occurrence(block, shift=place - index)
            running.append(block)
            if noted is not None and place in ends:
                note_when_run(block, place, noted)
            for fn in self.around:
                put_around(block, place, fn)
            if self.watched:
                watch(block, place, order, self.interventions, self.streams)
        if bias:
            share_bias_table(running[0], blocks[0])
        return running


def keyed(
    running: Sequence[nn.Module],
    order: Sequence[int],
    found: BlockList,
    children: Mapping[str, nn.Module | None],
) -> dict[str, nn.Module | None]:
    """The children of the list: what stands before the blocks, these, and what follows.

    Args:
        running: the module at each place, block `order[place]` of the model.
        children: those of the list as the model has it.
    """
    keys = list(children)
    start, stop = found.start, found.stop
    if all(key.isdigit() for key in keys):
        before, after = ([children[key] for key in part] for part in (keys[:start], keys[stop:]))
        return {str(place): child for place, child in enumerate([*before, *running, *after])}
    named: dict[str, nn.Module | None] = {key: children[key] for key in keys[:start]}
    for place, (index, module) in enumerate(zip(order, running, strict=True)):
        key = keys[start + index]
        taken = key in named or key in keys[stop:]
        named[f"{key}_at_{place}" if taken else key] = module
    return named | {key: children[key] for key in keys[stop:]}
