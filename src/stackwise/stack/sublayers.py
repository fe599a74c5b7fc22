"""Split what a block adds to the stream into what its attention and its MLP add.

A pre-norm block computes, in this order or in parallel,

    y = h + a + m            a: from attention, m: from the MLP

Where a and m are calculated differs between families: the attention itself (Llama), a norm after
it (Gemma 2), a layer scale or a drop path (DINOv2), a dropout (ViT), a bare linear layer (OPT).
So nothing is looked up by family. The outputs of all children are tried, and the pair that gives
y back to rounding error is the answer; where no pair does, the block is not additive (BERT and
BART normalise after adding), and the error says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor

from stackwise.errors import ModelError

ROUNDINGS = 8.0
"""How many units in the last place, of the largest term, the sum may be off."""


@dataclass
class Call:
    """One call of a child of a block: what went in first, what came out first."""

    name: str
    kind: str
    stream: Tensor | None
    output: Tensor
    inner: list["Call"] = field(default_factory=list)

    @property
    def attends(self) -> bool:
        """Whether this is attention, by the name of its class."""
        kind = self.kind.lower()
        if "norm" in kind or "dropout" in kind:
            return False
        return "attention" in kind or "attn" in kind


class SublayerCalls:
    """Collects the calls inside the running block, and splits its contribution."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._inner: list[Call] = []
        self._found: dict[int, tuple[int, ...]] = {}

    def begin(self) -> None:
        """A block starts to run."""
        self._calls, self._inner = [], []

    def called(self, name: str, kind: str, stream: Any, output: Any, inner: bool) -> None:
        """A child returned, or (`inner`) a child of one of its sublayers."""
        tensor = first_tensor(output)
        if tensor is None:
            return
        call = Call(name, kind, first_tensor(stream), tensor)
        if inner:
            self._inner.append(call)
            return
        call.inner, self._inner = self._inner, []
        self._calls.append(call)

    def split(self, block: int, h: Tensor, y: Tensor) -> dict[str, Tensor]:
        """What each sublayer added in the block that just ran, by name.

        Raises:
            ModelError: the block has no attention, or is not a sum.
        """
        calls, self._calls = self._calls, []
        chained = _split_chain(calls, h, y)
        if chained is not None:
            return chained
        shaped = [call for call in calls if call.output.numel() == y.numel()]
        attends = [place for place, call in enumerate(shaped) if call.attends]
        if not attends:
            raise ModelError(
                f"block {block} has no attention of the stream's shape among its children "
                f"({', '.join(call.name for call in calls) or 'none'}), so only its whole "
                f"contribution is defined; use capture() without sublayers."
            )
        terms = [call.output.reshape(y.shape) for call in shaped]
        chosen = self._found.get(block)
        if chosen is None or not _fits(h, y, terms, chosen):
            chosen = _best(h, y, terms, attends)
        if chosen is None:
            raise ModelError(
                f"block {block} is not input + attention + MLP: it normalises after adding "
                f"(post-norm), or it is in training mode with dropout; of a post-norm block only "
                f"the whole contribution is defined, use capture() without sublayers."
            )
        self._found[block] = chosen
        names = _names([*(shaped[place].kind for place in attends), "mlp"])
        return {name: terms[place] for name, place in zip(names, chosen, strict=True)}


def first_tensor(value: Any) -> Tensor | None:
    """`value` if it is a tensor, else the first of it if that is one."""
    if isinstance(value, tuple | list) and value:
        value = value[0]
    return value if isinstance(value, Tensor) else None


def _names(kinds: Sequence[str]) -> list[str]:
    """Self-attention comes first, attention to another sequence second, and the MLP last."""
    return ["attention", "cross_attention", "mlp"] if len(kinds) == 3 else ["attention", "mlp"]


def _best(h: Tensor, y: Tensor, terms: list[Tensor], attends: list[int]) -> tuple[int, ...] | None:
    """The choice of terms whose sum comes nearest to y, if any gives y to rounding error."""
    if len(attends) > 2:
        return None
    fitting = [c for c in _choices(len(terms), attends) if _fits(h, y, terms, c)]
    # Of equally good choices the last stands: a later child is nearer to what is added.
    return min(reversed(fitting), key=lambda c: _distance(h, y, terms, c), default=None)


def _choices(count: int, attends: list[int]) -> Iterator[tuple[int, ...]]:
    """One term from each attention on, before the next, and one of the MLP after them all."""
    ends = [*attends[1:], count - 1]
    for chosen in product(*(range(a, b) for a, b in zip(attends, ends, strict=True))):
        for last in range(chosen[-1] + 1, count):
            yield (*chosen, last)


def _total(h: Tensor, terms: list[Tensor], chosen: tuple[int, ...]) -> Tensor:
    total = h
    for place in chosen:
        total = total + terms[place]
    return total


def _fits(h: Tensor, y: Tensor, terms: list[Tensor], chosen: tuple[int, ...]) -> bool:
    if len(terms) <= max(chosen):
        return False
    with torch.no_grad():
        total = _total(h, terms, chosen)
        if torch.equal(total, y):
            return True
        size = h.abs() + sum(terms[place].abs() for place in chosen)
        eps = max(torch.finfo(total.dtype).eps, torch.finfo(y.dtype).eps)
        return bool(((total - y).abs() <= ROUNDINGS * eps * size).all())


def _distance(h: Tensor, y: Tensor, terms: list[Tensor], chosen: tuple[int, ...]) -> float:
    with torch.no_grad():
        return float((_total(h, terms, chosen) - y).abs().sum())


def _split_chain(calls: list[Call], h: Tensor, y: Tensor) -> dict[str, Tensor] | None:
    """The split of a block whose sublayers add for themselves, one after the other, as in T5.

    Each takes the stream and returns it with its own part added, which one of its children made.
    """
    if len(calls) < 2 or not calls[0].attends or calls[-1].attends:
        return None
    stream = h
    parts: list[Tensor] = []
    for call in calls:
        if call.stream is None or call.stream.shape != h.shape or call.output.shape != h.shape:
            return None
        if not torch.equal(call.stream, stream):
            return None
        parts_of_call = [inner.output for inner in call.inner if inner.output.shape == h.shape]
        added = _best_single(stream, call.output, parts_of_call)
        if added is None:
            return None
        parts.append(added)
        stream = call.output
    if not torch.equal(stream, y):
        return None
    return dict(zip(_names([call.kind for call in calls]), parts, strict=True))


def _best_single(h: Tensor, y: Tensor, terms: list[Tensor]) -> Tensor | None:
    """The one term with y = h + term, if any."""
    fitting = [place for place in range(len(terms)) if _fits(h, y, terms, (place,))]
    best = min(reversed(fitting), key=lambda p: _distance(h, y, terms, (p,)), default=None)
    return None if best is None else terms[best]
