"""A file that a stranger wrote makes no network larger than the weights that it brings.

Sizes stand twice in a kept model: as arguments in JSON (`width`, `k`, `layers`), and as the shapes
of the weights. The second cannot lie, for the file would have to be as large. So a network is first
made on torch's meta device, which holds no numbers, watched while it grows, and compared with the
shapes; only then is it made in memory.
"""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from stackwise.errors import RunError, StackwiseError

SMALLEST = 1 << 16
"""A whole number up to this is never too large: it may say neighbours, or rows of a batch."""
SPARE = 1000
"""Modules that hold no weights, beside each that does."""
M = TypeVar("M", bound=nn.Module)
Shapes = Mapping[str, Sequence[int]]


class TooLarge(Exception):
    """A network grows past the weights that lie beside it."""


def within(make: Callable[..., M], arguments: Mapping[str, Any], shapes: Shapes, path: Path) -> M:
    """`make(**arguments)`, a network whose state dict has just these shapes.

    Args:
        shapes: of the weights, by name. path: of their file, for the error.

    Raises:
        RunError: the arguments say another network, or none.
    """
    try:
        check_whole_numbers(arguments, most=max(numbers_in(shapes), SMALLEST))
        with growing_within(shapes):
            _compare(_without_numbers(make, arguments), shapes, path)
        with growing_within(shapes):
            return make(**arguments)
    except RunError:
        raise
    except _REFUSED as error:
        raise RunError(
            f"the network that stands beside {path} is not the one of these weights ({error})"
        ) from error


def _without_numbers(make: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> Shapes | None:
    """The shapes of a network; None where it reads numbers while it is made, so that it cannot be
    made without them.
    """
    try:
        with torch.device("meta"):
            skeleton = make(**arguments)
    except RuntimeError as error:  # and NotImplementedError, which is one
        if "meta" in str(error):
            return None
        raise
    return {name: tuple(value.shape) for name, value in skeleton.state_dict().items()}


_REFUSED = (
    TooLarge, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError,
    RuntimeError, TypeError, ValueError, StackwiseError,
)  # fmt: skip


def numbers_in(shapes: Shapes) -> int:
    """How many numbers tensors of these shapes hold."""
    return sum(math.prod(shape) for shape in shapes.values())


def check_whole_numbers(value: Any, most: int) -> None:
    """No whole number in JSON is larger than `most`, which a list of that length may become.

    Raises:
        ValueError: one is.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            check_whole_numbers(item, most)
    elif isinstance(value, int) and abs(value) > most:
        raise ValueError(f"it asks for {shown(value)}, and the file holds {most:,} numbers at most")


def shown(number: int) -> str:
    """A whole number, shortened where it is very long."""
    return f"{number:,}" if abs(number) < 10**18 else f"a number of {number.bit_length()} bits"


@contextlib.contextmanager
def growing_within(shapes: Shapes) -> Iterator[None]:
    """Stop a network that is made here, in this thread, once it has more than these weights need.

    Tied weights are counted as often as they are named, and buffers that are not kept are few.
    """
    most_tensors = 4 * len(shapes) + SPARE
    most_numbers = 4 * numbers_in(shapes) + 256 * SMALLEST
    seen = {"tensors": 0, "numbers": 0, "modules": 0}
    here = threading.get_ident()

    def grown(_: nn.Module, name: str, part: Any) -> None:
        if threading.get_ident() != here or part is None:
            return
        if isinstance(part, nn.Module):
            seen["modules"] += 1
        else:
            seen["tensors"] += 1
            seen["numbers"] += part.numel()
        if max(seen["tensors"], seen["modules"] / 4) > most_tensors:
            raise TooLarge(f"it has more than the {len(shapes)} tensors of the file")
        if seen["numbers"] > most_numbers:
            raise TooLarge(f"it has more than the {numbers_in(shapes):,} numbers of the file")

    hooks: Any = torch_module
    with contextlib.ExitStack() as watched:
        for watch in ("parameter", "buffer", "module"):
            add = getattr(hooks, f"register_module_{watch}_registration_hook")
            watched.callback(add(grown).remove)
        yield


def _compare(found: Shapes | None, shapes: Shapes, path: Path) -> None:
    if found is None:
        return
    for name in sorted({*found, *shapes}):
        if name not in found or name not in shapes:
            where = "the file lacks it" if name in found else "no part of the network has it"
            raise RunError(f"{path} holds weights of another network ({name}: {where})")
        if tuple(found[name]) != tuple(shapes[name]):
            raise RunError(
                f"{path} holds weights of another network ({name} is {tuple(shapes[name])} there "
                f"and {tuple(found[name])} in the network)"
            )
