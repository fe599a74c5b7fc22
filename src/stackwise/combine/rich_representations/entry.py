"""The transform: models that are trained already in, one on a target task out."""

import copy
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from sklearn.base import clone
from torch import Tensor, nn

from stackwise.catalog import Knob, ModelRef, transform
from stackwise.combine.rich_representations.clock import Clock
from stackwise.combine.rich_representations.distilling import distill, train_student
from stackwise.combine.rich_representations.features import refuse_equal
from stackwise.combine.rich_representations.heads import Joined
from stackwise.combine.rich_representations.learner import CARD, RichRepresentation
from stackwise.combine.rich_representations.members import Rows, with_knobs
from stackwise.combine.rich_representations.probing import choose_penalty, fit_head, fit_sliced
from stackwise.combine.rich_representations.tuning import (
    Budget,
    all_at_once,
    asked,
    batches_of,
    feature_rows,
    refuse_mixed,
    side_by_side,
    two_stage,
)
from stackwise.errors import DataError
from stackwise.learning.labelled_rows import validation_rows
from stackwise.models import open_model
from stackwise.training.knobs import floored, placed, seeded, tuned

HELD = 0.2
"""Share of a module's rows by which C is chosen."""


@transform(
    "rich-representations",
    having="a last linear layer",
    takes=("learner", "module"),
    budget="epochs",
    floor={"min_steps": 300},
    shared=(floored, tuned, placed, seeded),
    **CARD,
)
def rich_representations(
    model: Any,
    data: Any = None,
    *,
    members: Annotated[
        list[ModelRef] | None, Knob("the other members: runs, model folders or objects")
    ] = None,
    how: Annotated[
        Literal["two-stage", "probe", "sub", "initial", "distill"],
        Knob("tune members and join their heads; probe; a probe each; tune all at once; distil"),
    ] = "two-stage",
    head_epochs: Annotated[
        int, Knob("two-stage: passes of the joined head; 0 keeps the members' mean", ge=0)
    ] = 2,
    head_lr: Annotated[
        float, Knob("two-stage: learning rate of the joined head", gt=0, log=True)
    ] = 1e-3,
    C: Annotated[
        float | None, Knob("probes: inverse penalty; none: chosen on held-out rows", gt=0)
    ] = None,
    norm: Annotated[
        Literal["standard", "none"], Knob("probes: what becomes of features before")
    ] = "standard",
    temperature: Annotated[float, Knob("distill: of the answers", gt=0)] = 4.0,
    targets: Annotated[
        Literal["soft", "labels", "features"], Knob("distill: what of the members is learned")
    ] = "soft",
    layer: Annotated[
        str | None, Knob("last layer of the members, where it is not the last with weights")
    ] = None,
    pooling: Annotated[
        Literal["auto", "mean", "first"], Knob("of features that are (B, T, d)")
    ] = "auto",
    min_steps: int,
    workers: Annotated[int, Knob("two-stage: processes that tune members side by side", ge=1)] = 1,
    on: Annotated[
        str | None, Knob("two-stage: tune members on Ray: ray, or ray://host:port")
    ] = None,
    threads: Annotated[int | None, Knob("threads of the CPU", ge=1)] = None,
    loss: Callable[..., Tensor] | None = None,
    epochs: int,
    lr: float,
    weight_decay: float,
    batch_size: int | None,
    device: str,
    time_limit: float | None,
    random_state: int,
) -> Any:
    """Join trained classifiers on a target task, which may have other classes than they know.

    Args:
        model: a fitted learner or a module; of a `RichRepresentation` its members count.
        data: the target: a loaded task, (X, y), or of modules a list of batches.
        epochs, lr, weight_decay, batch_size: of fine-tuning and distillation.
        loss: for modules whose batches give no `.loss`.

    Returns:
        of learners a fitted `RichRepresentation`, of modules a module that is called as they are.

    Raises:
        ModelError: members of different kinds, twice the same, or without a linear head where
            heads are joined. DataError: members that take different samples.
    """
    if data is None:
        raise DataError("members are joined on a target: give it data")
    opened = [open_model(one) for one in (model, *(members or ()))]
    each = [
        part for one in opened
        for part in (one.members_ if isinstance(one, RichRepresentation) else [one])
    ]  # fmt: skip
    refuse_mixed(each)
    refuse_equal([getattr(one, "network_", one) for one in each])
    budget = Budget(epochs, lr, weight_decay, batch_size, min_steps, device, random_state)
    if how == "two-stage":
        return two_stage(
            each, data, epochs=epochs, lr=lr, weight_decay=weight_decay, batch_size=batch_size,
            min_steps=min_steps, head_epochs=head_epochs, head_lr=head_lr, loss=loss, layer=layer,
            pooling=pooling, workers=workers, on=on, threads=threads, device=device,
            time_limit=time_limit, random_state=random_state,
        )  # fmt: skip
    if how == "initial":
        limit = Clock.of(time_limit).left()
        return all_at_once(each, data, budget, loss=loss, layer=layer, pooling=pooling, limit=limit)
    if isinstance(each[0], nn.Module):
        if how == "distill":
            return distill(
                each, batches_of(each[0], data, loss, budget), each[0], temperature=temperature,
                targets=targets, layer=layer, epochs=max(epochs, 1), lr=lr,
                random_state=random_state,
            )  # fmt: skip
        return _probed_modules(each, data, loss, budget, how, C, norm, layer, pooling)
    made = RichRepresentation.of_members(
        each, each[0].classes_, head="sub" if how == "sub" else "cat", norm=norm,
        layer=layer, pooling=pooling, random_state=random_state,
    )  # fmt: skip
    if how == "distill":
        made = _distilled(made, data, budget, temperature, targets, time_limit)
    X, y, held = _samples_of(data)
    return made.probed(X, y, validation=held, C=C)


def _samples_of(data: Any) -> tuple[Any, Any, Any]:
    """X, y, and (X, y) that are held out or None, of a loaded task or of (X, y)."""
    if hasattr(data, "part"):
        held = data.part("validation")
        return *data.part("train"), held if len(held[1]) else None
    if isinstance(data, tuple) and len(data) == 2:
        return *data, None
    raise DataError(
        f"learners are joined on a loaded task or on (X, y), not on a {type(data).__name__}"
    )


def _distilled(
    made: RichRepresentation, data: Any, budget: Budget, temperature: float, targets: Any,
    time_limit: float | None,
) -> RichRepresentation:  # fmt: skip
    """The representation of one student of the members."""
    X, y, held = _samples_of(data)
    first = made.members_[0]
    others = [m for m in made.members_ if not np.array_equal(m.classes_, first.classes_)]
    if others or not np.isin(np.unique(y), first.classes_).all():
        raise DataError(
            "members are distilled on the classes that they know: give the data that they learned "
            "from, or take how=two-stage for other classes"
        )
    knobs: dict[str, Any] = {
        "max_epochs": max(budget.epochs, 1), "min_steps": budget.min_steps, "lr": budget.lr,
        "weight_decay": budget.weight_decay, "device": budget.device,
        "random_state": budget.seed, "time_limit": time_limit,
    }  # fmt: skip
    if budget.batch_size is not None:
        knobs["batch_size"] = budget.batch_size
    student = with_knobs(clone(first, safe=False), knobs)
    rows = Rows(X, np.asarray(y), None, held)
    fitted = train_student(
        student, made.members_, rows, made.network_.representation,
        lambda samples: made._inputs(made._features(samples, quietly=True)),
        targets=targets, temperature=temperature,
    )  # fmt: skip
    return RichRepresentation.of_members(
        [fitted], first.classes_, mode="distill", norm=made.norm,
        random_state=budget.seed, layer=made.layer, pooling=made.pooling,
    )  # fmt: skip


def _probed_modules(
    members: list[Any], data: Any, loss: Any, budget: Budget, how: str, C: float | None, norm: Any,
    layer: str | None, pooling: Any,
) -> Joined:  # fmt: skip
    """Modules that stay as they are, with a probe."""
    representation = side_by_side(copy.deepcopy(members), layer, pooling, frozen=True)
    batches = batches_of(members[0], data, loss, budget)
    features, target, _ = feature_rows(representation, batches)
    out = validation_rows(target, HELD, True, budget.seed)
    parts = [(features[keep], target[keep], None) for keep in (~out, out)]
    held = parts[1] if out.any() and C is None else None
    rows = (features, target, None) if held is None else parts[0]
    classes = int(target.max()) + 1
    if how == "sub":
        sizes = [z.shape[1] for z in asked(representation.each, batches[0])]
        head: nn.Module = fit_sliced(rows, held, sizes, classes, C=C, norm=norm)
    else:
        chosen = choose_penalty(rows, held, classes, norm=norm) if C is None else C
        head = fit_head(rows, classes, C=chosen, norm=norm)
    return Joined(representation, head).eval()
