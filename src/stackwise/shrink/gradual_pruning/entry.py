"""The transform: a model in, a sparse model of the same kind out."""

import copy
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

from torch import Tensor, nn

from stackwise.catalog import Knob, transform
from stackwise.errors import KnobError, ModelError
from stackwise.layers.masked_weights import attach, detach, prunable
from stackwise.learning.trainable import of_the_same_kind, trainable
from stackwise.shrink.gradual_pruning.masks import Choice, layer_targets
from stackwise.shrink.gradual_pruning.rule import GradualRule
from stackwise.shrink.gradual_pruning.schedule import Schedule
from stackwise.training import train
from stackwise.training.knobs import floored, placed, seeded, tuned


@transform(
    "gradual-pruning",
    title="Sparse weights, pruned while training",
    paper="1710.01878",
    cost="trains on for the epochs that you give it",
    budget="epochs",
    floor={"min_steps": 500},
    presets={"quick": {"epochs": 1, "every": 10}, "standard": {}, "best": {"epochs": 30}},
    verified="tests/shrink/test_gradual_pruning.py",
    shared=(floored, tuned, placed, seeded),
)
def gradual_pruning(
    model: Any,
    data: Any = None,
    *,
    sparsity: Annotated[
        float, Knob("share of the weights that ends at zero", ge=0, lt=1, search=(0.5, 0.98))
    ] = 0.9,
    initial: Annotated[float, Knob("share at the first update", ge=0, lt=1)] = 0.0,
    start: Annotated[float, Knob("first update: a share of the run, above 1 a step", ge=0)] = 0.1,
    end: Annotated[float, Knob("last update: a share of the run, above 1 a step", gt=0)] = 0.7,
    every: Annotated[int, Knob("steps between updates of the masks", ge=1)] = 100,
    exponent: Annotated[float, Knob("shape of the curve; 1 is a straight line", gt=0)] = 3.0,
    schedule: Annotated[
        Literal["gradual", "one-shot", "constant"], Knob("how the sparsity comes about")
    ] = "gradual",
    scope: Annotated[
        Literal["layer", "global"], Knob("whether weights are ranked in each layer or all together")
    ] = "layer",
    include: Annotated[
        list[str] | None, Knob("prune only weights whose name has one of these")
    ] = None,
    exclude: Annotated[
        list[str] | None, Knob("leave weights dense whose name has one of these")
    ] = None,
    per_layer: Annotated[
        dict[str, float] | None, Knob("sparsity by regular expression of the weight's name")
    ] = None,
    block: Annotated[list[int] | None, Knob("height, width of blocks that go together")] = None,
    pattern: Annotated[str | None, Knob("2:4 keeps 2 of each 4 neighbours")] = None,
    regrow: Annotated[bool, Knob("masked weights keep their value and may come back")] = True,
    min_steps: int,
    loss: Callable[..., Tensor] | None = None,
    epochs: int,
    batch_size: int | None,
    device: str,
    time_limit: float | None,
    random_state: int,
    **training: Any,
) -> Any:
    """Train a model on while its smallest weights are masked, until most of them are zero.

    Args:
        model: an `nn.Module` or a fitted learner. It is not changed.
        data: what `stackwise.learning.trainable` takes: for a learner a loaded task or (X, y); for
            a module a list of batches, or (x, y) with `loss(output, y)`.
        loss: for a module whose batches give no `.loss`.
        epochs: passes over the data; 0 prunes at once, untrained.
        training: `lr` and `weight_decay`.

    Returns:
        a new object of the same kind, its zeros in place and its state's names unchanged.

    Raises:
        KnobError: knobs that do not go together. ModelError: nothing to prune.
        TrainingError: the run is too short for the schedule.
    """
    made = _kept_pattern(pattern)
    blocks = _block(block)
    if scope == "global" and (made or blocks != (1, 1) or per_layer):
        raise KnobError("scope global ranks single weights; leave out block, pattern and per_layer")
    if initial > sparsity:
        raise KnobError(f"initial ({initial:g}) must not exceed sparsity ({sparsity:g})")
    final = 1 - made[0] / made[1] if made else sparsity
    if epochs == 0:
        network = copy.deepcopy(model.network_ if hasattr(model, "network_") else model)
        joined = None
    else:
        joined = trainable(model, data, loss=loss, batch_size=batch_size, seed=random_state)
        network = copy.deepcopy(joined.model)
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"a {type(model).__name__} has no network to prune; give an nn.Module or a fitted "
            "neural learner"
        )
    places = prunable(network, include=include, exclude=exclude or ())
    targets = layer_targets(list(places), final, per_layer)
    plan = None
    if joined is not None:
        epochs = max(epochs, math.ceil(min_steps / len(joined.batches)))
        plan = Schedule.within(
            epochs * len(joined.batches), start=start, end=end, every=every, exponent=exponent,
            kind=schedule,
        )  # fmt: skip
    choice = Choice(everywhere=scope == "global", block=blocks, pattern=made)
    masks = attach(places)
    if plan is None or joined is None:
        weights = {name: place.parameter for name, place in places.items()}
        fresh = choice.masks(weights, targets)
        for name, mask in fresh.items():
            masks[name].set(mask)
    else:
        rule = GradualRule(
            joined.loss, masks=masks, places=places, targets=targets, schedule=plan,
            initial=initial, choice=choice, regrow=regrow, **training,
            validate=joined.validate, monitor=joined.monitor, mode=joined.mode,
        )  # fmt: skip
        train(
            network, rule, joined.batches, max_epochs=epochs, seed=random_state, device=device,
            time_limit=time_limit, name="prune",
        )  # fmt: skip
        if not rule.settled:  # the time ran out on the way: land on the target all the same
            rule.prune(plan.last)
    detach(places)
    return of_the_same_kind(model, joined, network.eval())


def _kept_pattern(pattern: str | None) -> tuple[int, int] | None:
    if pattern is None:
        return None
    kept, colon, group = pattern.partition(":")
    if not colon or not kept.isdigit() or not group.isdigit() or not 0 < int(kept) < int(group):
        raise KnobError(f"pattern must be kept:group, such as 2:4, got {pattern!r}")
    return int(kept), int(group)


def _block(block: list[int] | None) -> tuple[int, int]:
    if block is None:
        return 1, 1
    if len(block) != 2 or any(not isinstance(side, int) or side < 1 for side in block):
        raise KnobError(f"block must be height,width, such as 4,4, got {block}")
    return block[0], block[1]
