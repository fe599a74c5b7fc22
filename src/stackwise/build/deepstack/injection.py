"""Add stacks of tokens to the stream before some blocks of any stack, at some positions.

    H[V] <- H[V] + X_k      at the input of block s + k n,  k = 0 .. K - 1          (algorithm 1)

s is the first block, n the interval, V the positions of the coarse tokens. Nothing else changes: no
weight is new, positions and masks are the model's, the sum is made on a copy. With a key-value
cache a pass adds what falls into its own piece of the sequence, so that a prompt may be read in
pieces, and a step behind it adds nothing.

    deep = DeepStack(decoder)
    deep(inputs_embeds=embeds, stacks=stacks, positions=mask).logits
    with deep.adding(stacks, mask):
        decoder.generate(inputs_embeds=embeds, ...)

Blocks are reached through `Stack.around`, which changes the model's list while a pass runs:
compiled code is left aside meanwhile, and `torch.export` does not see what is added.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.stack import Stack
from stackwise.stack.watch import stream_key


class DeepStack(nn.Module):
    """A model to which stacks of tokens are added; it holds no weight of its own.

    Args:
        model: whose blocks `Stack` reads: a decoder, an encoder, a vision transformer, any.
        start, interval: stack k is added at the input of block start + k interval.
        blocks: dotted name of the list of blocks, where it is not found.
    """

    def __init__(
        self, model: nn.Module, start: int = 1, interval: int = 1, blocks: str | None = None
    ) -> None:
        super().__init__()
        if start < 0 or interval < 1:
            raise ModelError(
                f"stacks begin at a block from 0 on and go on by at least 1, not at {start} by "
                f"{interval}"
            )
        self.model, self.start, self.interval, self.blocks = model, start, interval, blocks
        Stack.of(model, blocks)

    def forward(
        self, *, stacks: Tensor | None = None, positions: Tensor | None = None, **inputs: Any
    ) -> Any:
        """What the model returns for `inputs`, the stacks added.

        Args:
            stacks: (K, B, l, C), or (K, N, C) of all N positions, row after row; None or K = 0 is
                the model itself, bit for bit.
            positions: (B, T) bool over the whole sequence, a cached beginning included; or (B, l)
                int64, the place of each token.

        Raises:
            ModelError: stacks and positions do not fit each other, or lie before what is cached.
        """
        cached = _cached(inputs)
        if positions is not None and cached and _length(positions) <= cached:
            raise ModelError(
                f"a decode step must not receive stacks: all positions lie before the {cached} "
                "tokens that are cached"
            )
        with self.adding(stacks, positions):
            return self.model(**inputs)

    @contextmanager
    def adding(self, stacks: Tensor | None, positions: Tensor | None) -> Iterator["DeepStack"]:
        """Have the stacks added in the model's own passes inside, `generate` among them: each adds
        what lies in its piece of the sequence.
        """
        if stacks is None or not len(stacks):
            yield self
            return
        if positions is None:
            raise ModelError("stacks need the positions to which they are added")
        order, stacks = _numbered(positions), stacks
        flat = _flat(stacks, order)
        stack = Stack.of(self.model, self.blocks)
        check_depth(self.start, self.interval, len(flat), len(stack))
        at = {self.start + k * self.interval: k for k in range(len(flat))}
        begins = 0

        def called(_: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
            nonlocal begins
            begins = _cached(given)

        def around(place: int, forward: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
            if place in at:
                key = stream_key(args, given, place)
                if key is None:
                    args = (added(args[0], flat[at[place]], order, begins), *args[1:])
                else:
                    given = given | {key: added(given[key], flat[at[place]], order, begins)}
            return forward(*args, **given)

        hook = self.model.register_forward_pre_hook(called, with_kwargs=True)
        try:
            with stack.around(around):
                yield self
        finally:
            hook.remove()


def check_depth(start: int, interval: int, count: int, depth: int) -> None:
    """Every stack has a block.

    Raises:
        ModelError: the last one has none.
    """
    if start + (count - 1) * interval >= depth:
        raise ModelError(
            f"start {start} + {count} stacks x interval {interval} exceeds the {depth} layers"
        )


def added(h: Tensor, stack: Tensor, order: Tensor, begins: int = 0) -> Tensor:
    """The stream with a stack added at its positions, on a copy; itself where none lies here.

    Args:
        h: (B, t, C), tokens `begins` to `begins` + t of the sequence.
        stack: (N, C). order: (B, T) the number of each position's token, -1 where there is none.
    """
    here = order[:, begins : begins + h.shape[1]].to(h.device)
    rows, places = (here >= 0).nonzero(as_tuple=True)
    if not len(rows):
        return h
    tokens = stack.to(device=h.device, dtype=h.dtype)[here[rows, places]]
    return h.clone().index_put((rows, places), tokens, accumulate=True)


def _numbered(positions: Tensor) -> Tensor:
    """(B, T) int64: which token each position gets, counted row by row, -1 none."""
    if positions.dtype == torch.bool:
        flat = positions.flatten()
        return torch.where(flat, flat.cumsum(0) - 1, -1).view(positions.shape)
    order = positions.new_full((len(positions), _length(positions)), -1)
    numbers = torch.arange(positions.numel(), device=positions.device).view(positions.shape)
    return order.scatter(1, positions, numbers)


def _length(positions: Tensor) -> int:
    """Tokens of the sequence that positions are of; of places, up to the last."""
    return positions.shape[1] if positions.dtype == torch.bool else int(positions.max()) + 1


def _flat(stacks: Tensor, order: Tensor) -> Tensor:
    """(K, N, C), N as many as there are positions."""
    marked = (order >= 0).sum(1)
    if stacks.ndim == 4:
        rows, tokens = stacks.shape[1:3]
        if rows != len(order):
            raise ModelError(f"stacks of {rows} rows do not fit positions of {len(order)}")
        for row, count in enumerate(marked.tolist()):
            if count == tokens:
                continue
            if count and tokens and count % tokens == 0:
                raise ModelError(
                    f"positions mark {count // tokens} images in row {row} but 1 stack was given"
                )
            raise ModelError(
                f"stacks have {tokens} tokens, the image has {count} positions (row {row})"
            )
        return stacks.flatten(1, 2)
    if stacks.ndim != 3:
        raise ModelError(f"stacks are (K, B, l, C) or (K, N, C), not {tuple(stacks.shape)}")
    if stacks.shape[1] != int(marked.sum()):
        raise ModelError(
            f"stacks have {stacks.shape[1]} tokens, the image has {int(marked.sum())} positions"
        )
    return stacks


def _cached(given: dict[str, Any]) -> int:
    """Tokens of the sequence that a call finds in its cache."""
    cache = given.get("past_key_values")
    return int(cache.get_seq_length()) if cache is not None else 0
