"""`Stack`: run the blocks of a model in any order, see the stream, change it, keep the result.

Three decisions carry it:

- The list that holds the blocks is what a path changes, for as long as it is open, and nothing
  else is: no forward is rewritten, so that masks, caches, gradient checkpointing and generation
  are those of the model. Its config follows (settings.py).
- A block that runs at another place, or that is watched, stands in the list as an occurrence: new
  module objects over the same weights (occurrence.py). Hooks are put on occurrences only, so the
  model's own blocks are never touched, and closing a context is putting the old list back.
- What is in the list follows from the open contexts alone (arrangement.py). Each context adds its
  part, arranges the list anew, and takes its part out again at the end.
"""

import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.stack import rebuild
from stackwise.stack.arrangement import Arrangement, keyed
from stackwise.stack.discovery import BlockList, find_blocks, network_of
from stackwise.stack.recording import keep_recording_right
from stackwise.stack.settings import (
    apply_settings,
    cache_settings,
    current_settings,
    depth_settings,
)
from stackwise.stack.stem_and_head import modules_around
from stackwise.stack.stream import Stream
from stackwise.stack.watch import Around, Intervention, eagerly


class Stack:
    """The blocks of a model, live: no weight is copied, and changes to the model are seen.

    Make one with `Stack.of(model)`. Contexts of one Stack nest. A second Stack may be made inside
    an open context and then sees the blocks that run there; two that were made side by side cannot
    be open at once. A context changes the model for every thread that uses it.

    Attributes:
        model: the network (inside a fitted learner or a compiled model).
        name: dotted name of the module that holds the blocks; "" is the model itself.
    """

    def __init__(self, model: nn.Module, found: BlockList) -> None:
        self.model = model
        self.name = found.name
        self._found = found
        self._container = found.container
        self._children = found.container._modules
        self._size = len(self._children)
        self._plain = self._now = Arrangement(tuple(range(len(found))))
        self._undo: list[Callable[[], object]] = []

    @classmethod
    def of(cls, model: Any, blocks: str | None = None, side: str | None = None) -> "Stack":
        """The stack in `model`.

        Args:
            model: a transformers model, an `nn.Sequential`, any module that holds a list of like
                blocks, or a fitted learner with a `network_`.
            blocks: dotted name of the module whose children are the blocks, such as
                "encoder.layers", where the list is not found or is not the one wanted.
            side: "encoder" or "decoder" of a model that has both.

        Raises:
            ModelError: no list of blocks, or several; the message lists those seen.
        """
        network = network_of(model)
        return cls(network, find_blocks(network, blocks, side))

    def __len__(self) -> int:
        """Depth: the number of blocks of the model, whatever path is open."""
        return len(self._found)

    def __repr__(self) -> str:
        kind = type(self.blocks[0]).__name__
        return f"Stack({type(self.model).__name__}, {len(self)} x {kind} at {self.name!r})"

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks themselves, in the model's order."""
        children = list(self._children.values())[self._found.start : self._found.stop]
        return [child for child in children if child is not None]

    @property
    def names(self) -> list[str]:
        """Dotted name of each block in the model."""
        keys = list(self._children)[self._found.start : self._found.stop]
        return [f"{self.name}.{key}" if self.name else key for key in keys]

    @property
    def margins(self) -> tuple[int, int]:
        """How many other children of the module at `name` stand before the first block, and how
        many after the last.
        """
        return self._found.start, self._size - self._found.stop

    @property
    def stem(self) -> nn.ModuleList:
        """What runs before the first block, in its order; empty where nothing does.

        The outermost modules without a block in them: embeddings of a language model, patches of
        a vision transformer, and of a decoder its encoder too. Stem, blocks and head together are
        the whole model, each module once. The order is the one in which the forward of each
        module around the blocks names its parts, and for parts that it does not name, the one in
        which they were registered.
        """
        return nn.ModuleList(modules_around(self.model, self._found, self._children)[0])

    @property
    def head(self) -> nn.ModuleList:
        """What runs after the last block: norms, poolers, the layer that answers; see `stem`."""
        return nn.ModuleList(modules_around(self.model, self._found, self._children)[1])

    @property
    def order(self) -> list[int]:
        """Which block runs at each place now: the open path, or 0 .. depth - 1."""
        return list(self._now.order)

    @contextmanager
    def path(self, order: Iterable[int]) -> Iterator["Stack"]:
        """Run the blocks in this order, with repeats and omissions, while the context is open.

        Each place has its own slot in the key-value cache, so `generate` works; a cache made
        outside does not fit inside. Inside another path, the indices still are those of the
        model's blocks, and the outer path holds again at the end. The identity path costs
        nothing and changes no bit. `torch.compile`d models are compiled once more per order.

        Raises:
            ModelError: the order is empty or has an index that is not a block; or, at the end,
                the model ran only part of it, since its forward counts blocks for itself.
        """
        new_order = self._check_order(order)
        ran: list[int] = []
        with self._arranged(replace(self._now, order=new_order, ends_that_ran=ran)):
            yield self
        if 0 in ran and len(new_order) - 1 not in ran:
            raise ModelError(
                f"{type(self.model).__name__} ran only part of the path: its forward counts "
                f"{self.name or 'its blocks'} by itself instead of running the list to its end."
            )

    @contextmanager
    def capture(self, sublayers: bool = False) -> Iterator[Stream]:
        """See the residual stream of the passes inside; the `Stream` holds the last of them.

        Args:
            sublayers: also what attention and MLP add, where a block is a sum of them; a forward
                pass through a block that is not raises a ModelError that says why.

        A compiled model runs uncompiled inside.
        """
        stream = Stream(sublayers)
        with self._arranged(replace(self._now, streams=(*self._now.streams, stream))):
            yield stream

    @contextmanager
    def intervene(
        self, block: int, fn: Callable[[Tensor], Tensor], position: int | None = None
    ) -> Iterator["Stack"]:
        """Replace the output h of a block by fn(h), h of shape (batch, ..., width).

        Args:
            block: index of the block in the model.
            position: only at this place of the path that is open now; every one by default.

        Several interventions on a block are applied in the order in which they were opened, and
        a capture sees what they made. A compiled model runs uncompiled inside.

        Raises:
            ModelError: no such block, the block is not at that position, or fn does not return
                a tensor of the shape of h.
        """
        (block,) = self._check_order([block])
        if position is not None:
            order = self._now.order
            if not 0 <= position < len(order) or order[position] != block:
                places = [place for place, index in enumerate(order) if index == block]
                raise ModelError(
                    f"block {block} does not run at position {position}; in the path that is "
                    f"open it runs at {places or 'no position'}."
                )
        intervention = Intervention(block, fn, position)
        open_now = (*self._now.interventions, intervention)
        with self._arranged(replace(self._now, interventions=open_now)):
            yield self

    @contextmanager
    def around(self, fn: Around, order: Iterable[int] | None = None) -> Iterator["Stack"]:
        """Have `fn` called in place of each block, to call it, change it, or answer for it.

        Args:
            fn: fn(place, forward, args, kwargs) -> what the block should return; `place` is the
                one in the path, forward(*args, **kwargs) runs the block. Of several the one that
                was opened last stands outermost; captures and interventions see what comes out.
            order: of the blocks, as for `path`; the one that is open by default.

        A compiled model runs uncompiled inside.
        """
        new_order = self._now.order if order is None else self._check_order(order)
        open_now = (*self._now.around, fn)
        with self._arranged(replace(self._now, order=new_order, around=open_now)):
            yield self

    def rebuild(self, order: Iterable[int]) -> nn.Module:
        """A new model of these blocks, that computes what `path(order)` computes.

        Everything is copied, repeats are independent of each other, tied weights stay tied, and
        the config says what was built, so that `save_pretrained` and `from_pretrained` give the
        same model again.

        Raises:
            ModelError: as for `path`; the model's config cannot express the order; or adapters of
                peft are on the model, which would be kept without the blocks that they are for.
        """
        new_order = self._check_order(order)
        rebuild.refuse_adapters(self.model, new_order, len(self))
        with self._arranged(Arrangement(new_order)):
            new = rebuild.deep_copy(self.model, self._found, new_order)
        rebuild.settle(new, self.model, self._found, new_order)
        return new

    def _check_order(self, order: Iterable[int]) -> tuple[int, ...]:
        try:
            checked = tuple(operator.index(index) for index in order)
        except TypeError:
            raise ModelError(f"an order is a list of block indices, not {order!r}.") from None
        if not checked:
            raise ModelError("an order needs at least one block; it is empty.")
        for index in checked:
            if not 0 <= index < len(self):
                raise ModelError(
                    f"there is no block {index}; {type(self.model).__name__} has blocks "
                    f"0 to {len(self) - 1}."
                )
        return checked

    @contextmanager
    def _arranged(self, arrangement: Arrangement) -> Iterator[None]:
        """Have the list hold what `arrangement` asks for, and put back what it held."""
        if not self._undo and not self._is_current():
            raise ModelError(
                f"the blocks at {self.name!r} are not those that this Stack was made of: another "
                f"Stack is open on the model, or the list was edited; make a new Stack.of(model)."
            )
        before = self._now
        try:
            with eagerly() if arrangement.watched else nullcontext():
                self._arrange(arrangement)
                yield
        finally:
            self._arrange(before)

    def _is_current(self) -> bool:
        try:
            container = self.model.get_submodule(self.name)
        except AttributeError:
            return False
        same = container is self._container and container._modules is self._children
        return same and len(self._children) == self._size

    def _arrange(self, arrangement: Arrangement) -> None:
        while self._undo:
            self._undo.pop()()
        self._now = arrangement
        if arrangement is self._plain:
            return
        order = arrangement.order
        moved = order != tuple(range(len(self)))
        settings = cache_settings(self.model, self._found, len(order))
        settings += depth_settings(self.model, self._found, order) if moved else []
        if settings:
            former = current_settings(settings)
            self._undo.append(lambda: apply_settings(former))
            apply_settings(settings)
        if not moved and not arrangement.watched:
            return
        hooked = bool(arrangement.interventions or arrangement.streams)
        self._undo.append(keep_recording_right(self.model, first=hooked))
        running = arrangement.running(self.blocks)
        training = self._container.training
        self._undo.append(lambda: self._restore(training))
        self._container._modules = keyed(running, order, self._found, self._children)

    def _restore(self, training: bool) -> None:
        self._container._modules = self._children
        mode = self._container.training
        if mode != training:  # train() or eval() was called inside: it holds for every block
            for block in self.blocks:
                block.train(mode)
