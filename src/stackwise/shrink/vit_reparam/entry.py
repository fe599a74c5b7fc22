"""The transform: a trained deep vision transformer in, one of a half or fewer layers out."""

import copy
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

import torch
from torch import Tensor, nn

from stackwise.catalog import Knob, transform
from stackwise.errors import KnobError, ModelError
from stackwise.learning.trainable import of_the_same_kind, trainable
from stackwise.shrink.vit_reparam.branches import Mixing, Values
from stackwise.shrink.vit_reparam.grouping import grouped, restored
from stackwise.shrink.vit_reparam.learner import CARD, joining_knobs
from stackwise.shrink.vit_reparam.merging import merge
from stackwise.shrink.vit_reparam.network import BranchedViT
from stackwise.shrink.vit_reparam.rule import JoinRule
from stackwise.shrink.vit_reparam.schedule import JoinSchedule, Order, Shape, set_join
from stackwise.stack import Stack
from stackwise.training import train
from stackwise.training.distillation import TaughtBy, logits_of
from stackwise.training.knobs import floored, placed, seeded, taught, tuned


@transform(
    "vit-reparam",
    tasks=("images",),
    takes=("learner", "vision"),
    budget="epochs",
    floor={"min_steps": 300},
    shared=(joining_knobs, taught, floored, tuned, placed, seeded),
    **CARD,
)
def vit_reparam(
    model: Any,
    data: Any = None,
    *,
    depth: Annotated[int | None, Knob("layers that are left; none: a half", ge=1)] = None,
    values: str,
    start: float,
    end: float,
    shape: str,
    order: str,
    mixing: str,
    pairwise: bool,
    distill_alpha: float,
    temperature: float,
    schedule: Annotated[
        Literal["constant", "cosine", "linear"], Knob("how the learning rate falls")
    ] = "cosine",
    min_steps: int,
    loss: Callable[..., Tensor] | None = None,
    epochs: int,
    batch_size: int | None,
    device: str,
    time_limit: float | None,
    random_state: int,
    **training: Any,
) -> Any:
    """Make a trained vision transformer shallower: blocks become branches, branches are merged.

    Each run of blocks becomes the branches of one layer; the branches are joined while the model
    learns from the labels and from what it answered before; then they are merged exactly. What ran
    in sequence and now runs side by side is an approximation, which that learning mends.

    Args:
        model: a fitted vision transformer of this library, or a ViT, DeiT or DINOv2 of
            transformers. It is not changed; what is made learns from it, too.
        data: what `stackwise.learning.trainable` takes: a loaded task, for a learner (X, y), for a
            module batches.
        loss: for a module whose batches give no `.loss`.
        epochs: passes over the data; 0 groups and merges at once, which no model survives.
        training: `lr` and `weight_decay`.

    Returns:
        a new object of the same kind: a model of transformers in its own class, which loads
        without this package.

    Raises:
        ModelError: it is no such model, or its layers cannot be grouped so.
    """
    deep = getattr(model, "network_", model)
    if not isinstance(deep, nn.Module):
        raise ModelError(f"a {type(model).__name__} is no vision transformer")
    wanted = _depth(deep, depth)
    joining = JoinSchedule(start, end, cast(Shape, shape), cast(Order, order))
    if values == "wide" and not isinstance(deep, BranchedViT):
        raise KnobError(
            f"values=wide makes heads that {type(deep).__name__} has no place for; leave it join"
        )
    how: dict[str, Any] = {"mixing": cast(Mixing, mixing), "pairwise": pairwise}
    joined = None
    if epochs:
        joined = trainable(model, data, loss=loss, batch_size=batch_size, seed=random_state)
        deep = joined.model
    teacher = copy.deepcopy(deep).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        branched = grouped(deep, wanted, values=cast(Values, values), **how)
    if joined is not None:
        rule = JoinRule(
            TaughtBy(joined.loss, teacher, alpha=distill_alpha, temperature=temperature),
            schedule_of_joining=joining, time_limit=time_limit, schedule=schedule, **training,
            validate=joined.validate, monitor=joined.monitor, mode=joined.mode,
        )  # fmt: skip
        epochs = max(epochs, math.ceil(min_steps / len(joined.batches)))
        branched = train(
            branched, rule, joined.batches, max_epochs=epochs, seed=random_state, device=device,
            time_limit=time_limit, name="join",
        ).model  # fmt: skip
    set_join(branched, 1.0)
    merged = merge(branched).eval()
    if not isinstance(deep, BranchedViT):
        merged = restored(merged, like=teacher.to(next(merged.parameters()).device)).eval()
    return of_the_same_kind(model, joined, merged)


def _depth(deep: nn.Module, depth: int | None) -> int:
    """The layers that are left: those asked for, or the most that are at most a half."""
    layers = len(Stack.of(deep))
    if depth is None:
        if layers == 1:
            raise ModelError("the model has one layer, and cannot be made shallower")
        return max(count for count in range(1, layers // 2 + 1) if layers % count == 0)
    if layers % depth:
        fitting = [count for count in range(1, layers) if layers % count == 0]
        raise ModelError(
            f"{layers} layers cannot be grouped into {depth} layers; depth may be "
            f"{', '.join(map(str, fitting)) or '1'}"
        )
    return depth


@torch.no_grad()
def grouping_gap(model: nn.Module, depth: int, *inputs: Tensor, **named: Tensor) -> float:
    """How far answers move when the blocks of a model run side by side, before anything learns:
    |grouped - model| / |model|, Frobenius norms of the logits.
    """
    before = logits_of(model(*inputs, **named))
    after = logits_of(grouped(model, depth)(*inputs, **named))
    return float((after - before).norm() / before.norm())
