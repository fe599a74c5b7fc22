"""The hooks on an occurrence of a block: change what comes out, and show what flows."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.stack.stream import Stream
from stackwise.stack.sublayers import first_tensor

Around = Callable[[int, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""Stands around a block: fn(place, forward, args, kwargs) -> what the block should return."""

STREAM = "hidden_states"
"""What transformers calls the stream, as an argument and in an output."""


@dataclass(frozen=True)
class Intervention:
    """Replace the output of `block` by fn(output), everywhere or at one `position`."""

    block: int
    fn: Callable[[Tensor], Tensor]
    position: int | None

    def at(self, place: int, block: int) -> bool:
        """Whether this changes `block` when it runs at `place`."""
        return block == self.block and self.position in (None, place)

    def __call__(self, h: Tensor) -> Tensor:
        new = self.fn(h)
        if not isinstance(new, Tensor) or new.shape != h.shape:
            got = f"shape {tuple(new.shape)}" if isinstance(new, Tensor) else type(new).__name__
            raise ModelError(
                f"the intervention on block {self.block} returned {got}; a tensor of the "
                f"stream's shape {tuple(h.shape)} is needed."
            )
        return new


def watch(
    module: nn.Module,
    place: int,
    order: Sequence[int],
    interventions: Sequence[Intervention],
    streams: Sequence[Stream],
) -> None:
    """Put the hooks on the occurrence that runs at `place`: interventions first, then streams."""
    here = [change for change in interventions if change.at(place, order[place])]

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        h = stream_in(args, kwargs, order[place])
        for stream in streams:
            stream.enter(order, place, h)

    def leave(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        h = first = stream_out(output, order[place])
        for change in here:
            h = change(h)
        for stream in streams:
            stream.leave(place, first, h)
        return None if h is first else with_stream(output, h)

    if streams:
        module.register_forward_pre_hook(enter, with_kwargs=True)
    if streams or here:
        module.register_forward_hook(leave)
    for stream in streams:
        if stream.wants_sublayers:
            _watch_children(module, stream)


def _watch_children(block: nn.Module, stream: Stream) -> None:
    """Show the stream every call of a child; of a list of sublayers, also of their children."""
    for name, child in block.named_children():
        if isinstance(child, nn.ModuleList):
            for key, sublayer in child.named_children():
                _show_calls(sublayer, f"{name}.{key}", stream, inner=False)
                for inner_name, inner in sublayer.named_children():
                    _show_calls(inner, f"{name}.{key}.{inner_name}", stream, inner=True)
        else:
            _show_calls(child, name, stream, inner=False)


def _show_calls(module: nn.Module, name: str, stream: Stream, inner: bool) -> None:
    kind = type(module).__name__

    def show(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        stream.called(name, kind, args or kwargs.get(STREAM), output, inner)

    module.register_forward_hook(show, with_kwargs=True)


def stream_key(args: tuple[Any, ...], kwargs: dict[str, Any], block: int) -> str | None:
    """Where the stream is in what a block is called with: None first, or the name that it has.

    Raises:
        ModelError: there is no tensor among them.
    """
    if args and isinstance(args[0], Tensor):
        return None
    for name in (STREAM, *kwargs):
        if isinstance(kwargs.get(name), Tensor):
            return name
    raise ModelError(f"block {block} is called without a tensor, so there is no stream to see.")


def stream_in(args: tuple[Any, ...], kwargs: dict[str, Any], block: int) -> Tensor:
    """The stream that a block is called with."""
    key = stream_key(args, kwargs, block)
    stream: Tensor = args[0] if key is None else kwargs[key]
    return stream


def stream_out(output: Any, block: int) -> Tensor:
    """The stream in what a block returns: a tensor, or the first of a tuple."""
    tensor = first_tensor(output)
    if tensor is None and isinstance(output, dict):
        tensor = output.get(STREAM)
    if tensor is None:
        raise ModelError(
            f"block {block} returns {type(output).__name__}; a tensor, or a tuple that begins "
            f"with one, is needed to see or change the stream."
        )
    return tensor


def with_stream(output: Any, h: Tensor) -> Any:
    """What a block returned, with `h` for its stream."""
    if isinstance(output, Tensor):
        return h
    if isinstance(output, dict):
        changed = type(output)(output)
        changed[STREAM] = h
        return changed
    new = (h, *output[1:])
    return new if type(output) is tuple else type(output)(new)


def put_around(module: nn.Module, place: int, fn: Around) -> None:
    """Have `fn` called in place of the forward of the occurrence that runs at `place`."""
    forward = module.forward

    def answer(*args: Any, **kwargs: Any) -> Any:
        return fn(place, forward, args, kwargs)

    vars(module)["forward"] = answer


def eagerly() -> AbstractContextManager[object]:
    """Leave compiled code aside: it does not see hooks that were put on after it was made."""
    if "torch._dynamo" not in sys.modules:  # importing it costs seconds, and nothing is compiled
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


def note_when_run(module: nn.Module, place: int, ran: list[int]) -> None:
    """Append `place` to `ran` the first time that `module` runs."""

    def note(*_: object) -> None:
        if place not in ran:
            ran.append(place)

    module.register_forward_hook(note)
