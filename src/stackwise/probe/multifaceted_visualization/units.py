"""A unit of a network: a channel of one of its modules, and how strongly a picture excites it.

blocks.3:17          channel 17 of the module `blocks.3`, averaged over the map
blocks.3:17@centre   the same at the middle of the map
output:243           number 243 of what the network answers, before softmax
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import KnobError, nearest

OUTPUT = "output"
GRID = 4
"""Cells a side, over which the codes of a map are averaged."""


@dataclass(frozen=True)
class Unit:
    """A channel of a module.

    Attributes:
        module: its dotted name; `output` is the network's answer.
        channel: counted from 0. centre: the middle of the map alone, and not the mean.
    """

    module: str
    channel: int
    centre: bool = False

    def __str__(self) -> str:
        return f"{self.module}:{self.channel}" + ("@centre" if self.centre else "")


def unit_of(text: str) -> Unit:
    """The unit that a text names.

    Raises:
        KnobError: it names none.
    """
    found = re.fullmatch(r"\s*([\w.]+):(\d+)(@centre)?\s*", text)
    if found is None:
        raise KnobError(
            f"{text!r} names no unit; give a module and a channel, such as blocks.3:17, "
            "blocks.3:17@centre or output:243"
        )
    return Unit(found[1], int(found[2]), found[3] is not None)


class _Reached(Exception):
    """The module has answered, so that the rest of the network need not run."""


def module_named(network: nn.Module, name: str) -> nn.Module:
    """The module of that name.

    Raises:
        KnobError: there is none.
    """
    known = dict(network.named_modules())
    if name not in known or not name:
        kinds = [one for one in known if one and one.count(".") <= 1]
        near = nearest(name, [one for one in known if one])
        few = ", ".join(kinds[:12])
        raise KnobError(f"the network has no module {name!r}.{near} Some of its modules: {few}")
    return known[name]


def answer_of(network: nn.Module, module: str, call: Callable[[], Any]) -> Tensor:
    """What a module answers while the network is called; what comes behind it does not run."""
    if module == OUTPUT:
        return tensor_of(call())
    kept: list[Any] = []

    def hook(_module: nn.Module, _given: Any, answer: Any) -> None:
        kept.append(answer)
        raise _Reached

    handle = module_named(network, module).register_forward_hook(hook)
    try:
        call()
    except _Reached:
        pass
    finally:
        handle.remove()
    if not kept:
        raise KnobError(f"the network does not run its module {module!r}; give another unit")
    return tensor_of(kept[0])


def tensor_of(answer: Any) -> Tensor:
    """The tensor in what a module answers."""
    if isinstance(answer, Tensor):
        return answer
    for name in ("logits", "last_hidden_state"):
        if isinstance(found := getattr(answer, name, None), Tensor):
            return found
    if isinstance(answer, (tuple, list)) and answer and isinstance(answer[0], Tensor):
        return answer[0]
    raise KnobError(f"a {type(answer).__name__} holds no tensor of units; give another module")


def channels_second(answer: Tensor, sides: int) -> Tensor:
    """(B, C, ...): tokens (B, T, C) of pictures have their channels last."""
    return answer.movedim(-1, 1) if sides == 2 and answer.ndim == 3 else answer


def activation(answer: Tensor, unit: Unit, sides: int) -> Tensor:
    """(B,) how strongly a unit answers.

    Args:
        answer: of its module, (B, C), (B, C, *S) or tokens (B, T, C). sides: of the pictures, 1
            for series.

    Raises:
        KnobError: there is no such channel.
    """
    found = channels_second(answer, sides)
    if not unit.channel < found.shape[1]:
        raise KnobError(
            f"{unit.module} has {found.shape[1]:,} channels, 0 to {found.shape[1] - 1}, and none "
            f"of number {unit.channel}"
        )
    one = found[:, unit.channel]
    if unit.centre and one.ndim > 1:
        for side in one.shape[1:]:
            one = one.select(1, side // 2)
        return one
    return one.flatten(1).mean(1) if one.ndim > 1 else one


def code(answer: Tensor, sides: int) -> Tensor:
    """(B, D) the channels over a grid of at most 4 cells a side, which keeps the layout of a map;
    tokens are averaged.
    """
    found = channels_second(answer, sides)
    if found.ndim == sides + 2 and sides == 2:
        tall, wide = _cells(found)
        return functional.adaptive_avg_pool2d(found, (tall, wide)).flatten(1)
    if found.ndim == sides + 2 and sides == 1:
        return functional.adaptive_avg_pool1d(found, _cells(found)[0]).flatten(1)
    return found.flatten(2).mean(2) if found.ndim > 2 else found


def _cells(found: Tensor) -> list[int]:
    return [min(GRID, side) for side in found.shape[2:]]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No weight asks for a gradient; each has its own will again on leaving."""
    asked = [(weight, weight.requires_grad) for weight in network.parameters()]
    for weight, _ in asked:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight, wanted in asked:
            weight.requires_grad_(wanted)
