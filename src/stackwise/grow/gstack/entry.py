"""The transform: a language model in, a deeper or wider one out, ready to be trained on."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import nn

from stackwise.catalog import Knob, transform
from stackwise.errors import KnobError, ModelError
from stackwise.grow.gstack.depth import (
    refuse_unstackable,
    stacked,
    with_identity_blocks,
    with_random_blocks,
)
from stackwise.grow.gstack.learned import learned
from stackwise.grow.gstack.noise import add_noise
from stackwise.grow.gstack.orders import (
    check_order,
    interleaved_order,
    partial_order,
    stack_order,
)
from stackwise.grow.gstack.width import widened, widened_at_random, widened_with_zeros
from stackwise.protocols import Trains
from stackwise.stack import SavedModel, Stack
from stackwise.training.knobs import placed, seeded

Operator = Literal["direct", "zero", "random", "learned"]
Axis = Literal["depth", "width"]
TITLE = "Grow a trained model by stacking its blocks"
PAPER = "2405.15319"


def grow_saved(
    folder: Path,
    out: Path,
    *,
    factor: int,
    operator: Operator,
    axis: Axis,
    order: str | Sequence[int],
    noise: float,
    **others: Any,
) -> bool:
    """Stack the blocks of a saved model from files to files; no weight is read into memory.

    Numbers keep the type that they have on disk.

    Returns:
        False, and nothing was done, where another operator, axis or noise wants the weights.
    """
    if operator != "direct" or axis != "depth" or noise:
        return False
    saved = SavedModel(folder)
    places = source_blocks(saved.stack.model, order, factor)
    refuse_unstackable(saved.stack, places)
    saved.rebuild(places, out)
    return True


@transform(
    "gstack",
    title=TITLE,
    paper=PAPER,
    cost="none to grow; the larger model is trained on",
    tasks=("text",),
    takes=("decoder", "vision", "encoder"),
    shared=(placed, seeded),
    on_disk=grow_saved,
)
def gstack(
    model: Any,
    data: Any = None,
    *,
    factor: Annotated[int, Knob("how many times as deep, or as wide", ge=1)] = 2,
    operator: Annotated[Operator, Knob("where the new weights come from")] = "direct",
    axis: Annotated[Axis, Knob("what grows")] = "depth",
    order: Annotated[
        str | list[int], Knob("stack, interleave, runs such as 12-3456*5-56, or block numbers")
    ] = "stack",
    split: Annotated[
        Literal["even", "uneven"], Knob("how copies in width share what they read")
    ] = "uneven",
    noise: Annotated[float, Knob("share of random numbers mixed in", ge=0, le=1)] = 0.0,
    learn_steps: Annotated[int, Knob("steps of operator learned", ge=0)] = 100,
    learn_lr: Annotated[float, Knob("their learning rate", gt=0, log=True)] = 7e-5,
    device: str,
    random_state: int,
) -> nn.Module:
    """Grow a trained language model in depth or width; what comes out is trained on.

    The paper's choice, G_stack, is the default: the whole list of blocks, `factor` times over. It
    computes something else at first (only `zero` keeps the function) and learns fastest.

    Args:
        model: a causal language model of transformers; any decoder that `Stack.of` reads for
            depth, a Llama-like one for width. It is not changed.
        data: for operator `learned`: a loaded text task, or batches for which the model returns a
            loss.

    Returns:
        a model of the same class with a config that says its new size.

    Raises:
        KnobError: knobs that do not go together. ModelError: the model cannot grow so.
    """
    return grow(
        model, data, factor=factor, operator=operator, axis=axis, order=order, split=split,
        noise=noise, learn_steps=learn_steps, learn_lr=learn_lr, device=device, seed=random_state,
    )  # fmt: skip


def grow(
    model: Any,
    data: Any = None,
    *,
    factor: int = 2,
    operator: Operator = "direct",
    axis: Axis = "depth",
    order: str | Sequence[int] = "stack",
    split: Literal["even", "uneven"] = "uneven",
    noise: float = 0.0,
    learn_steps: int = 100,
    learn_lr: float = 7e-5,
    device: str = "auto",
    seed: int = 0,
) -> nn.Module:
    """What `gstack` does, with arguments that are taken as they are."""
    if not isinstance(model, nn.Module):
        raise ModelError(f"a {type(model).__name__} is no model that could grow")
    places = source_blocks(model, order, factor if axis == "depth" else 1)
    if axis == "depth":
        grown = _deeper(model, data, places, operator, learn_steps, learn_lr, device, seed)
    else:
        grown = _wider(
            model, data, places, factor, operator, split, learn_steps, learn_lr, device, seed
        )
    add_noise(grown, noise, seed=seed)
    return grown.train(model.training)


def source_blocks(model: Any, order: str | Sequence[int], factor: int) -> list[int]:
    """The source block of each place of the grown model."""
    layers = len(Stack.of(model))
    if not isinstance(order, str):
        check_order(list(order), layers)
        return list(order)
    if order == "stack":
        return stack_order(layers, factor)
    if order == "interleave":
        return interleaved_order(layers, factor)
    return partial_order(order, layers)


def _deeper(
    model: Any, data: Any, order: list[int], operator: Operator, steps: int, lr: float,
    device: str, seed: int,
) -> nn.Module:  # fmt: skip
    if operator == "direct":
        return stacked(model, order)
    if operator == "zero":
        return with_identity_blocks(model, order)
    if operator == "random":
        depth = len(Stack.of(model))
        if order[:depth] != list(range(depth)):
            raise KnobError("random blocks are put on top of the model's own; leave order as it is")
        return with_random_blocks(model, len(order), seed=seed)
    batches = text_batches(model, data, steps)
    return learned(model, batches, order, steps=steps, lr=lr, seed=seed, device=device)


def _wider(
    model: Any, data: Any, order: list[int], factor: int, operator: Operator,
    split: Literal["even", "uneven"], steps: int, lr: float, device: str, seed: int,
) -> nn.Module:  # fmt: skip
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "hidden_size"):
        raise ModelError(f"a {type(model).__name__} has no config that says its width")
    if order != list(range(len(order))):
        raise KnobError("growth in width keeps the blocks as they are; leave order as it is")
    width = factor * config.hidden_size
    if factor == 1:
        return stacked(model, order)
    if operator == "direct":
        return widened(model, width, split=split, seed=seed)
    if operator == "zero":
        return widened_with_zeros(model, width, seed=seed)
    if operator == "random":
        return widened_at_random(model, width, seed=seed)
    batches = text_batches(model, data, steps)
    return learned(model, batches, order, width, steps=steps, lr=lr, seed=seed, device=device)


def text_batches(model: Any, data: Any, steps: int) -> list[Any]:
    """At most `steps` batches to learn a growth on, from a text task or ready-made ones."""
    if data is None:
        raise KnobError('operator "learned" learns the growth on text: give data')
    if isinstance(data, Trains):
        rows = islice(data.batches("train", model=model, batch_size=16).epoch(0), steps)
        return [batch | {"labels": batch["input_ids"]} for batch in rows]
    if not isinstance(data, Iterable):
        raise KnobError(f"a {type(data).__name__} is no text and no list of batches")
    return list(islice(data, steps))
