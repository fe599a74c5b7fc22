"""The transform: train any stack sorted, cut it to a budget, or both."""

import copy
from collections.abc import Callable
from typing import Annotated, Any

from torch import Tensor, nn

from stackwise.catalog import Knob, transform
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.learning.measuring import made_up_inputs
from stackwise.learning.outputs import inputs_in
from stackwise.learning.trainable import Trainable, of_the_same_kind, trainable
from stackwise.protocols import Task
from stackwise.stack import Stack
from stackwise.train.sortednet.costs import (
    WITHIN,
    select,
    smallest_within,
    table_of_submodels,
)
from stackwise.train.sortednet.extracting import extract
from stackwise.train.sortednet.knobs import choice_of, drawing_of, sorting_knobs
from stackwise.train.sortednet.learner import CARD
from stackwise.train.sortednet.marks import mark_sorted, marked_space, marked_spread
from stackwise.train.sortednet.reading import Axes, Spread
from stackwise.train.sortednet.rule import SortedRule
from stackwise.train.sortednet.spaces import SortedSpace
from stackwise.train.sortednet.statistics import Statistics, batch_norms
from stackwise.training import train
from stackwise.training.knobs import placed, seeded, tuned
from stackwise.training.rules import Backprop


@transform(
    "sortednet",
    takes=("learner", "decoder", "vision", "encoder", "module"),
    budget="epochs",
    shared=(sorting_knobs, tuned, placed, seeded),
    **CARD,
)
def sortednet(
    model: Any,
    data: Any = None,
    *,
    max_macs: Annotated[float | None, Knob("multiply-adds of one sample at most", gt=0)] = None,
    max_params: Annotated[float | None, Knob("parameters at most", gt=0)] = None,
    max_latency: Annotated[
        float | None, Knob("milliseconds of one sample at most, measured here", gt=0)
    ] = None,
    take: Annotated[
        dict[str, float] | None,
        Knob('or its sizes, {"depth": 2, "width": 0.5}; those not named are full'),
    ] = None,
    within: Annotated[
        float, Knob("without either: share of the score that may be lost; the smallest", ge=0, lt=1)
    ] = WITHIN,
    epochs: Annotated[
        int, Knob("passes of sorted training first; 0 cuts what is sorted already", ge=0)
    ] = 0,
    adjust: Annotated[
        int, Knob("passes that fit the last layers alone to the model that was cut", ge=0)
    ] = 0,
    loss: Callable[..., Tensor] | None = None,
    batch_size: int | None,
    device: str,
    time_limit: float | None,
    random_state: int,
    lr: float,
    weight_decay: float,
    **knobs: Any,
) -> Any:
    """Cut a sorted network to a budget: a plain smaller one comes out; or train one sorted first.

    With a budget the largest sub-model within it is copied out, with sizes that of these sizes, and
    with neither the smallest whose score on validation data is within 4 % of the whole one's. With
    `epochs` the model is trained through its sub-models before; it then stays whole, unless a
    budget or sizes are given.

    Args:
        model: a fitted learner, a model of transformers (depth, heads and hidden units; of a
            Llama-like decoder the width too), or any module whose blocks `Stack.of` finds (depth).
            It is not changed.
        data: what `stackwise.learning.trainable` takes; needed with `epochs` or `adjust`.
        loss: for a module whose batches give no `.loss`.
        knobs: the sub-models of the training, and how a step draws them.

    Returns:
        a new object of the same kind.

    Raises:
        KnobError: nothing is asked for, no sub-model is within the budget, or sizes that the
            network cannot have. ModelError: it has no stack of blocks, or its width was never
            sorted.
    """
    asked = _Asked(knobs)
    budget = {"max_macs": max_macs, "max_params": max_params, "max_latency": max_latency}
    cuts = take is not None or any(most is not None for most in budget.values())
    if not isinstance(getattr(model, "network_", model), nn.Module):
        raise ModelError(f"a {type(model).__name__} has no network that could be cut")
    if not cuts and not epochs and data is None:
        raise KnobError(
            "say what to make: a budget (max_macs, max_params, max_latency), sizes (take), or "
            "epochs of sorted training; or give data to choose by"
        )
    if within != WITHIN and (cuts or epochs):
        raise KnobError("within is for a choice without a budget, sizes and epochs: leave it out")
    if not cuts and epochs and adjust:
        raise KnobError("adjust fits a model that was cut: give a budget or take")
    if take is not None and any(most is not None for most in budget.values()):
        raise KnobError("give a budget or take, not both")
    asked.refuse_idle(epochs)
    joined = None
    if epochs or adjust or (data is not None and (not cuts or _has_statistics(model))):
        joined = trainable(model, data, loss=loss, batch_size=batch_size, seed=random_state)
    network = copy.deepcopy(Stack.of(model).model)
    known = getattr(model, "space_", None) or marked_space(network)
    spread: Spread = asked.spread if epochs else getattr(model, "spread", marked_spread(network))
    axes = Axes.of(network, spread=spread)
    statistics: Statistics = getattr(model, "statistics_", None) or Statistics()
    space = known
    if epochs or known is None or asked.choice.is_given:
        space = asked.choice.space(axes.extents) if asked.choice.is_given or not known else known
    assert space is not None
    training: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
    if epochs:
        assert joined is not None
        inner = Backprop(
            joined.loss, **training, validate=joined.validate, monitor=joined.monitor,
            mode=joined.mode,
        )  # fmt: skip
        rule = SortedRule(
            inner, space, drawing_of(asked), seed=random_state, spread=spread,
            batches=joined.batches,
        )  # fmt: skip
        network = train(
            network, rule, joined.batches, max_epochs=epochs, seed=random_state, device=device,
            time_limit=time_limit, name="sort",
        ).model  # fmt: skip
        axes, statistics = Axes.of(network, spread=spread), Statistics()
        if batch_norms(network):
            for sizes in space.sizes:
                statistics.measure(axes, sizes, joined.batches.epoch(0), joined.loss)
            statistics.put(network, axes.full)
    if not cuts and epochs:
        return _handed_back(model, joined, network, space, statistics, spread)
    if take is not None:
        chosen = axes.checked(take)
    elif not cuts:
        assert joined is not None
        judge, mode = judge_of(model, data, joined)
        table = table_of_submodels(
            network, space, None, judge=judge, statistics=statistics, spread=spread
        )
        chosen = smallest_within(table, within, mode)
    else:
        example = _example(model, network, joined, data)
        table = table_of_submodels(
            network, space, example, latency=max_latency is not None, statistics=statistics,
            spread=spread,
        )  # fmt: skip
        chosen = select(table, **budget)
    _refuse_unsorted(axes, chosen, known if not epochs else space)
    small = extract(network, chosen, statistics=statistics, spread=spread)
    if batch_norms(small) and joined is not None:
        own = Axes.of(small)
        statistics.measure(own, own.full, joined.batches.epoch(0), joined.loss)
        statistics.put(small, own.full)
    elif batch_norms(small) and chosen != axes.full and not statistics.sets:
        raise DataError(
            "the batch normalisation of this network has no statistics for sub-models: give data"
        )
    if adjust:
        assert joined is not None
        small = _adjusted(small, joined, adjust, training, random_state, device, time_limit)
    return _handed_back(model, joined, small, space.within(chosen), statistics, spread)


def judge_of(
    model: Any, data: Any, joined: Trainable | None
) -> tuple[Callable[[nn.Module, dict[str, int]], float], str]:
    """What scores a plain network on validation data, and whether less or more is better.

    Raises:
        DataError: the data have no validation part.
    """
    if isinstance(data, Task):
        metric, task = data.metric, data

        def judged(small: nn.Module, sizes: dict[str, int]) -> float:
            asked = model.with_network(small) if hasattr(model, "with_network") else small
            return float(task.judge(asked, "validation").scores[metric.name])

        return judged, metric.mode
    validate, monitor = (None, None) if joined is None else (joined.validate, joined.monitor)
    if joined is None or validate is None or monitor is None:
        raise DataError("there is no validation part to choose a size by: give a budget or take")
    return lambda small, sizes: float(validate(small.eval())[monitor]), joined.mode


class _Asked:
    """The knobs of sorted training, as attributes."""

    spread: Spread

    def __init__(self, knobs: dict[str, Any]) -> None:
        vars(self).update(knobs)
        self.knobs, self.choice = knobs, choice_of(self)

    def refuse_idle(self, epochs: int) -> None:
        """Refuse what only training takes, where there is none."""
        usual = {
            "scheme": "sampled", "accumulate": None, "full_probability": 0.0, "spread": "first",
            "probability": "uniform",
        }  # fmt: skip
        for name, value in usual.items():
            if not epochs and self.knobs[name] != value:
                raise KnobError(f"{name} is about sorted training: give epochs")


def _has_statistics(model: Any) -> bool:
    return bool(batch_norms(Stack.of(model).model)) and not hasattr(model, "statistics_")


def _example(model: Any, network: nn.Module, joined: Trainable | None, data: Any) -> Any:
    """What the network is called with of one sample; None where nobody knows."""
    if hasattr(model, "example_inputs"):
        return model.example_inputs()
    found = made_up_inputs(network)
    if found is not None:
        return found
    batches = joined.batches.epoch(0) if joined is not None else iter(data or ())
    batch = next(iter(batches), None)
    if not isinstance(batch, dict):
        return None
    return {name: tensor[:1] for name, tensor in inputs_in(batch).items()}


def _refuse_unsorted(axes: Axes, chosen: dict[str, int], known: SortedSpace | None) -> None:
    """Refuse to narrow a network that was trained whole: its first numbers are no better."""
    narrowed = [axis for axis in chosen if axis != "depth" and chosen[axis] < axes.full[axis]]
    trained = {axis for sizes in (known.sizes if known else ()) for axis in sizes
               if sizes[axis] < axes.full[axis]}  # fmt: skip
    strange = [axis for axis in narrowed if axis not in trained]
    if strange:
        raise ModelError(
            f"the {strange[0]} of this model was never sorted, so that its first units are no "
            "better than others: train it with epochs first"
        )


def _adjusted(
    small: nn.Module, joined: Trainable, epochs: int, training: dict[str, Any], seed: int,
    device: str, time_limit: float | None,
) -> nn.Module:  # fmt: skip
    """Fit what stands behind the blocks, all else frozen."""
    head = {id(p) for module in Stack.of(small).head for p in module.parameters()}
    for parameter in small.parameters():
        parameter.requires_grad_(id(parameter) in head)
    rule = Backprop(
        joined.loss, **training, validate=joined.validate, monitor=joined.monitor, mode=joined.mode
    )
    done: nn.Module = train(
        small, rule, joined.batches, max_epochs=epochs, seed=seed, device=device,
        time_limit=time_limit, name="adjust",
    ).model.requires_grad_(True)  # fmt: skip
    return done


def _handed_back(
    model: Any, joined: Trainable | None, network: nn.Module, space: SortedSpace,
    statistics: Statistics, spread: Spread,
) -> Any:  # fmt: skip
    if hasattr(network, "config"):
        mark_sorted(network, space, spread)
    made = of_the_same_kind(model, joined, network.eval())
    if hasattr(made, "keep_submodels"):
        made.keep_submodels(space, statistics)
        if made.spread != spread:
            made.set_params(spread=spread)
    return made
