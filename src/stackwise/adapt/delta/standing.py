"""Which deltas are on a model, and the base without them."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from stackwise.adapt.delta.hashes import module_of, state_hash

NAME = "_deltas_on"
"""Under which a module holds the deltas that are on it, so that its copies have their own."""


def deltas_on(model: Any) -> tuple[Any, ...]:
    """The deltas that are on a module or a learner, in the order in which they came."""
    return tuple(module_of(model).__dict__.get(NAME, ()))


def settle_all(model: Any) -> Any:
    """Leave all deltas that are on for good, in place; returns the model.

    Raises:
        ModelError: one of them cannot be merged.
    """
    on = deltas_on(model)
    for delta in on:
        delta.check_mergeable()
    for delta in weights_first(on):
        delta.merge(model)
    return model


def weights_first(deltas: Sequence[Any]) -> list[Any]:
    """Those that change weights, then those that stand beside them and are merged into what those
    made.
    """
    return sorted(deltas, key=lambda delta: not delta.in_weights)


@contextlib.contextmanager
def all_off(model: Any) -> Iterator[Any]:
    """Have the base without its deltas within the block."""
    on = deltas_on(model)
    for delta in reversed(on):
        delta.take_off(model)
    try:
        yield model
    finally:
        for delta in on:
            delta.put(model, check=False)


def base_hash(model: Any) -> str:
    """The hash of a model without the deltas that are on it: what a delta knows its base by.

    It is of the names, shapes and numbers of parameters and buffers, so that a model in float16 or
    bfloat16 and its float32 copy have one hash. It takes about a second a gigabyte.
    """
    with all_off(model):
        return state_hash(module_of(model))


def come(module: nn.Module, delta: Any) -> None:
    """Put a delta on the list of those on a module."""
    module.__dict__[NAME] = [*deltas_on(module), delta]


def go(module: nn.Module, delta: Any) -> None:
    """Strike a delta off the list of those on a module."""
    on = [one for one in module.__dict__[NAME] if one is not delta]
    if on:
        module.__dict__[NAME] = on
    else:
        del module.__dict__[NAME]
