"""The transform: a trained deep stack in, groups of its blocks side by side out, tuned to match."""

import copy
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from stackwise.catalog import Knob, transform
from stackwise.errors import KnobError, ModelError
from stackwise.layers.sweeps import put_sweeps, sweeps_of, take_sweeps_off
from stackwise.learning.trainable import Trainable, of_the_same_kind, trainable
from stackwise.shrink.shallow_again.grouping import check_residual, groups_of, in_container
from stackwise.shrink.shallow_again.learner import CARD
from stackwise.stack import Stack
from stackwise.training import train
from stackwise.training.distillation import TaughtBy, logits_of
from stackwise.training.knobs import placed, seeded, taught, tuned
from stackwise.training.rules import Backprop

RECOUNTED = 50
"""Batches from which the statistics of batch normalisation are taken anew."""


@transform(
    "shallow-again",
    takes=("learner", "decoder", "vision", "module"),
    budget="epochs",
    shared=(taught, tuned, placed, seeded),
    **CARD,
)
def shallow_again(
    model: Any,
    data: Any = None,
    *,
    order: Annotated[
        int, Knob("sweeps in a group: 1 is fully side by side, the group's size the deep one", ge=1)
    ] = 1,
    group: Annotated[
        int | None, Knob("blocks side by side; none: all in a row that keep the shape", ge=1)
    ] = None,
    fuse: Annotated[bool, Knob("one convolution for a group, where blocks allow it")] = True,
    distill_alpha: float,
    temperature: float,
    loss: Callable[..., Tensor] | None = None,
    epochs: int,
    batch_size: int | None,
    device: str,
    time_limit: float | None,
    random_state: int,
    **training: Any,
) -> Any:
    """Make a trained stack shallow: blocks of a group read one input, and what they add is summed.

    Without training the answers are wrong, the more so the more blocks there are in a group; a few
    epochs on the labels and on what the deep model answered mend most of it. Parameters, their
    names and the operations are the same; the steps one after the other are fewer.

    Args:
        model: a fitted learner, a model of transformers, or any module with a list of blocks that
            each return their input plus something. It is not changed; what is made learns from it,
            too. One that is cut already is cut anew, and learns from its own answers.
        data: what `stackwise.learning.trainable` takes; without it, or with epochs=0, nothing is
            trained. A module that returns a loss and no logits learns from the labels alone.
        loss: for a module whose batches give no `.loss`.
        training: `lr` and `weight_decay`.

    Returns:
        a new object of the same kind; saved by this library, it comes back side by side, and its
        weights alone are those of the deep form.

    Raises:
        ModelError: blocks are of no residual form, or nothing can run side by side.
        KnobError: order is above the size of the groups.
    """
    joined = None
    if data is not None:
        joined = trainable(model, data, loss=loss, batch_size=batch_size, seed=random_state)
    deep = joined.model if joined is not None else getattr(model, "network_", model)
    if not isinstance(deep, nn.Module):
        raise ModelError(f"a {type(model).__name__} has no network whose blocks could be moved")
    shallow = copy.deepcopy(deep)
    take_sweeps_off(shallow)  # a model that is cut already is cut anew
    stack = Stack.of(shallow)
    once = None
    if joined is not None:
        batch, of_batch = next(iter(joined.batches.epoch(0))), joined.loss
        once = lambda: of_batch(shallow.eval(), batch)  # noqa: E731
        check_residual(shallow, stack, once)
    groups = groups_of(stack, group, once)
    longest = max(map(len, groups))
    if order > longest:
        raise KnobError(f"order is {order}, and the largest group has {longest} blocks")
    put_sweeps(shallow, stack.name, in_container(stack, groups), order, fuse)
    _say_in_config(shallow, order)
    if joined is not None:
        recount(shallow, joined)
        if epochs:
            taught = TaughtBy(
                joined.loss, copy.deepcopy(deep), alpha=distill_alpha, temperature=temperature
            )
            rule = Backprop(
                taught if _gives_logits(deep, joined) else joined.loss,
                **training, validate=joined.validate, monitor=joined.monitor, mode=joined.mode,
            )  # fmt: skip
            shallow = train(
                shallow, rule, joined.batches, max_epochs=epochs, seed=random_state, device=device,
                time_limit=time_limit, name="mend",
            ).model  # fmt: skip
    return of_the_same_kind(model, joined, shallow.eval())


@torch.no_grad()
def _gives_logits(model: nn.Module, joined: Trainable) -> bool:
    """Whether there are answers to learn from; a module that returns a loss alone has none."""
    given: list[Any] = []
    hook = model.register_forward_hook(lambda _, __, output: given.append(output))
    try:
        joined.loss(model, next(iter(joined.batches.epoch(0))))
        logits_of(given[0])
    except ModelError:
        return False
    finally:
        hook.remove()
    return True


def _say_in_config(model: nn.Module, order: int) -> None:
    """Keep in a model of transformers what runs side by side, where `open_model` reads it.

    With several sweeps it generates without its cache: blocks that run several times would write
    their keys and values several times.
    """
    config: Any = getattr(model, "config", None)
    if config is None:
        return
    config.side_by_side = sweeps_of(model)
    if order > 1:
        both: list[Any] = [config, getattr(model, "generation_config", None)]
        for settings in both:
            if hasattr(settings, "use_cache"):
                settings.use_cache = False


@torch.no_grad()
def recount(model: nn.Module, joined: Trainable) -> None:
    """Take the statistics of batch normalisation anew: those of the deep form are of its states."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    model.train()
    for batch in _some(joined.batches.epoch(0)):
        joined.loss(model, batch)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    model.eval()


def _some(batches: Iterable[Any]) -> Iterable[Any]:
    return (batch for _, batch in zip(range(RECOUNTED), batches, strict=False))
