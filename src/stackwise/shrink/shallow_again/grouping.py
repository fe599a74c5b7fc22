"""Which blocks of a model may run side by side: consecutive ones that keep the shape.

A network with stages is made shallow stage by stage; what changes the shape stays in sequence.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from stackwise.errors import ModelError
from stackwise.shrink.shallow_again.network import consecutive
from stackwise.stack import Stack


def runs_of_one_shape(stack: Stack, once: Callable[[], Any] | None = None) -> list[list[int]]:
    """The blocks of a stack, in runs of those that keep the shape; any other is a run of its own.

    Args:
        once: calls the model on some batch. Without, blocks with parameters of the same shapes are
            taken to keep the shape.
    """
    if once is None:
        forms = [[tuple(p.shape) for p in block.parameters()] for block in stack.blocks]
        keeps = [forms.count(form) > 1 for form in forms]
        joins = [keeps[i] and i > 0 and forms[i] == forms[i - 1] for i in range(len(stack))]
    else:
        with torch.no_grad(), stack.capture() as stream:
            once()
        shapes = [tuple(hidden.shape[1:]) for hidden in stream.hidden]
        keeps = [shapes[i] == shapes[i + 1] for i in range(len(stack))]
        joins = [i > 0 and keeps[i] and keeps[i - 1] for i in range(len(stack))]
    runs: list[list[int]] = []
    for place, join in enumerate(joins):
        if join:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def groups_of(
    stack: Stack, group: int | None, once: Callable[[], Any] | None = None
) -> list[list[int]]:
    """The groups of a stack's blocks that will run side by side, single blocks among them.

    Args:
        group: blocks in a group; None takes each run of one shape whole.

    Raises:
        ModelError: there is nothing to put side by side.
    """
    groups: list[list[int]] = []
    for run in runs_of_one_shape(stack, once):
        groups += [[run[0] + i for i in part] for part in consecutive(len(run), group or len(run))]
    if len(stack) > 1 and all(len(one) == 1 for one in groups):
        why = "group is 1" if group == 1 else "no two of its blocks in a row keep the shape"
        raise ModelError(
            f"nothing of this {type(stack.model).__name__} can run side by side: {why}"
        )
    for one in groups:
        _check_alike(stack, one)
    return groups


def in_container(stack: Stack, groups: list[list[int]]) -> list[list[int]]:
    """The groups as places in the list that holds the blocks, with what stands around them."""
    before, after = stack.margins
    end = before + len(stack)
    moved = [[before + i for i in one] for one in groups]
    return [[i] for i in range(before)] + moved + [[i] for i in range(end, end + after)]


def _check_alike(stack: Stack, group: list[int]) -> None:
    """A model that treats layers by their kind gives all blocks of a group what the first is given.

    Raises:
        ModelError: they are of several kinds, such as local and global attention.
    """
    kinds = {getattr(stack.blocks[i], "attention_type", None) for i in group}
    if len(kinds) > 1:
        raise ModelError(
            f"blocks {group[0]} to {group[-1]} have attention of several kinds "
            f"({', '.join(map(str, kinds))}); take a smaller group"
        )


def check_residual(model: nn.Module, stack: Stack, once: Callable[[], Any]) -> None:
    """Refuse transformers that normalise behind the sum: their blocks add nothing to a stream.

    Raises:
        ModelError: a block is no sum of its input and what its parts add.
    """
    if not hasattr(model, "config"):
        return
    try:
        with torch.no_grad(), stack.capture(sublayers=True):
            once()
    except ModelError as error:
        raise ModelError(
            f"the blocks of this {type(model).__name__} are not of the form x + F(x): {error}"
        ) from error
