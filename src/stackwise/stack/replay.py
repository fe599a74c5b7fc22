"""Record one run of a model, then call its blocks again on other streams.

    h[0] = stem(x),   h[i + 1] = block_i(h[i], what else it is called with),   y = head(h[depth])

A block wants more than a stream: masks, rotary embeddings, the states of an encoder, a cache. One
run of the model shows what; from then on each piece of it can be played by itself, and nothing
that stays the same is computed twice:

    replay, output = record(stack, input_ids=ids, use_cache=False)
    replay.hidden                        # depth + 1 streams: before each block, after the last
    replay.block(3, h)                   # one block on another stream
    replay.run(range(3, 12), h)          # these blocks in this order
    replay.head(h)                       # what the model answers where h comes out of the blocks
    replay.stem(input_ids=other)         # the stream that other inputs come to the first block as

A block that is played on its recorded stream gives the next one bit for bit, where the model gives
the same twice (in training mode a dropout does not).

Rows. A stream has a row a sample. What a block was called with belongs to the rows of the recorded
run where it is a tensor of two axes or more, whose first is as long as the batch; also inside a
tuple, list or dict, and in a cache. It goes with the rows of the stream that is played:

    rows=None      as many rows as recorded; or n times as many, copy after copy of the batch
    rows=[2, 2, 0] row 0 of the stream goes with recorded row 2, row 1 too, row 2 with row 0

A cache is played as it was before the run, a fresh copy each time, so that no call sees another's.
"""

import copy
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stackwise.errors import ModelError
from stackwise.stack.view import Stack
from stackwise.stack.watch import stream_in, stream_key, stream_out, with_stream

Rows = Sequence[int] | Tensor | None
"""Which recorded row each row of a stream goes with."""


@dataclass(frozen=True)
class Call:
    """What a block was called with besides the stream.

    Attributes:
        key: None where the stream came first, or the name that it came by.
    """

    key: str | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def record(stack: Stack, *args: Any, **kwargs: Any) -> tuple["Replay", Any]:
    """Run the model once. Returns what plays its blocks again, and the output of the run.

    Args:
        args, kwargs: what the model is called with. The tensors of the run are kept as they are,
            with their graph; record under `torch.no_grad()` where no gradient is wanted.

    Raises:
        ModelError: the model does not run each block once, in their order.
    """
    depth = len(stack)
    if stack.order != list(range(depth)):
        raise ModelError(f"the path {stack.order} is open; a run is recorded in the model's order.")
    caches: dict[int, Any] = {}
    whole = _kept((args, kwargs), caches)
    calls: list[Call] = []
    returned: list[Any] = []

    def keep(place: int, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        key = stream_key(args, kwargs, place)
        others = {name: value for name, value in kwargs.items() if name != key}
        calls.append(Call(key, *_kept((args[1:] if key is None else args, others), caches)))
        returned[:] = [forward(*args, **kwargs)]
        return returned[0]

    with stack.capture() as stream, stack.around(keep):
        output = stack.model(*args, **kwargs)
    if len(calls) != depth:
        raise ModelError(
            f"the model has {depth} blocks and called blocks {len(calls)} times; to be played "
            f"again, each has to run once."
        )
    return Replay(stack, stream.hidden, calls, whole, returned[0]), output


class Replay:
    """A recorded run, whose blocks are played on other streams; `record` makes it.

    The blocks are those of the model, with the weights that they have when they are played.

    Attributes:
        stack: the model as stem, blocks and head.
        hidden: depth + 1 streams of the run: before each block, and after the last.
        batch: rows of the run.
    """

    def __init__(
        self, stack: Stack, hidden: list[Tensor], calls: list[Call], whole: Any, last: Any
    ) -> None:
        self.stack, self.hidden = stack, hidden
        self.batch = hidden[0].shape[0]
        self._calls = calls
        self._whole = whole  # (args, kwargs) of the model
        self._last = last  # what the last block returned, in its own form

    def again(self) -> Any:
        """Run the whole model once more as it was called; returns its output."""
        args, kwargs = self._of(None, self._whole)
        return self.stack.model(*args, **kwargs)

    def block(self, index: int, stream: Tensor, rows: Rows = None) -> Tensor:
        """What block `index` makes of a stream (rows, ..., width).

        Raises:
            ModelError: no such block, or rows that do not fit the stream.
        """
        if not 0 <= index < len(self._calls):
            raise ModelError(f"there is no block {index}; the run has 0 to {len(self._calls) - 1}.")
        call, block = self._calls[index], self.stack.blocks[index]
        args, kwargs = self._of(self._chosen(stream, rows), (call.args, call.kwargs))
        if call.key is None:
            output = block(stream, *args, **kwargs)
        else:
            output = block(*args, **{call.key: stream}, **kwargs)
        return stream_out(output, index)

    def run(self, order: Iterable[int], stream: Tensor, rows: Rows = None) -> Tensor:
        """What these blocks, one after the other, make of a stream; any order of them."""
        for index in order:
            stream = self.block(index, stream, rows)
        return stream

    def head(self, stream: Tensor, rows: Rows = None, **changed: Any) -> Any:
        """The output of the model where this stream comes out of its last block; none is run.

        Args:
            changed: arguments of the model other than those of the run, for all rows of `stream`.
        """
        chosen = self._chosen(stream, rows)
        args, kwargs = self._of(chosen, self._whole)
        answer = with_stream(self._of(chosen, self._last), stream)
        with self.stack.around(lambda *_: answer, order=[len(self.stack) - 1]):
            return self.stack.model(*args, **(kwargs | changed))

    def stem(self, *args: Any, **kwargs: Any) -> Tensor:
        """The stream before the first block, of a model called so; nothing behind it is run."""

        def stop(place: int, _: Callable[..., Any], args: Any, kwargs: Any) -> None:
            raise _Reached(stream_in(args, kwargs, place))

        try:
            with self.stack.around(stop, order=[0]):
                self.stack.model(*args, **kwargs)
        except _Reached as reached:
            return reached.stream
        raise ModelError("the model did not run its first block.")

    def _chosen(self, stream: Tensor, rows: Rows) -> Tensor | None:
        """The recorded row of each row of a stream; None where they are the same."""
        count = stream.shape[0]
        if rows is None:
            if count == self.batch:
                return None
            if count % self.batch:
                raise ModelError(
                    f"the stream has {count} rows and the recorded run {self.batch}; say which of "
                    f"them each goes with, rows=[...]."
                )
            return torch.arange(count, device=stream.device) % self.batch
        chosen = torch.as_tensor(rows, device=stream.device)
        if len(chosen) != count or not bool(((chosen >= 0) & (chosen < self.batch)).all()):
            raise ModelError(
                f"rows is {chosen.tolist()}; for a stream of {count} rows it names {count} of the "
                f"recorded rows 0 to {self.batch - 1}."
            )
        return chosen

    def _of(self, chosen: Tensor | None, value: Any) -> Any:
        """`value`, of the recorded run, for these of its rows."""
        if isinstance(value, Tensor):
            if chosen is None or value.dim() < 2 or value.shape[0] != self.batch:
                return value
            if self.batch == 1:
                return value.expand(len(chosen), *value.shape[1:])
            return value[chosen.to(value.device)]
        if _is_cache(value):
            fresh = copy.deepcopy(value)
            if chosen is not None:
                fresh.batch_select_indices(chosen)
            return fresh
        if type(value) in (tuple, list):
            return type(value)(self._of(chosen, one) for one in value)
        if type(value) is dict:
            return {name: self._of(chosen, one) for name, one in value.items()}
        return value


class _Reached(Exception):
    """The stream came to the first block; the rest of the pass is not needed."""

    def __init__(self, stream: Tensor) -> None:
        self.stream = stream


def _kept(value: Any, caches: dict[int, Any]) -> Any:
    """What something is called with, each cache in it as it was when it was first seen.

    Blocks write to a cache, each in a slot of its own, so one copy from before the first block
    serves them all.
    """
    if _is_cache(value):
        if id(value) not in caches:
            caches[id(value)] = copy.deepcopy(value)
        return caches[id(value)]
    if type(value) in (tuple, list):
        return type(value)(_kept(one, caches) for one in value)
    if type(value) is dict:
        return {name: _kept(one, caches) for name, one in value.items()}
    return value


def _is_cache(value: object) -> bool:
    """Whether it is a key-value cache of transformers; never imports transformers."""
    library: Any = sys.modules.get("transformers.cache_utils")
    return library is not None and isinstance(value, library.Cache)
