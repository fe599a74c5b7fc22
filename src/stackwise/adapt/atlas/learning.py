"""How the coefficients are learned and chosen: from knobs and data to a composed model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from stackwise.adapt.atlas.arithmetic import scores_by_alpha, set_all
from stackwise.adapt.atlas.batches import SideBySide
from stackwise.adapt.atlas.blocks import Blocks, blocks_of
from stackwise.adapt.atlas.budget import (
    allowed_donors,
    gradient_at_zero,
    mean_feature,
)
from stackwise.adapt.atlas.calls import Loss
from stackwise.adapt.atlas.composition import Composition
from stackwise.adapt.atlas.donors import TaskVector, task_vectors
from stackwise.adapt.atlas.head import with_head_learned
from stackwise.adapt.atlas.objectives import (
    SharpnessAware,
    added,
    check_classes,
    forgetting,
    mean_loss,
    no_better,
    of_contrast,
    relative,
    score_of,
    watched,
    watched_loss,
)
from stackwise.adapt.atlas.ufm import FixMatch, Unlabelled
from stackwise.adapt.atlas.wanted import UNLABELLED, Wanted
from stackwise.adapt.delta.hashes import module_of
from stackwise.errors import DataError
from stackwise.findings import Findings
from stackwise.learning.trainable import Trainable, of_the_same_kind, trainable
from stackwise.training import train
from stackwise.training.distribution.devices import rows_of
from stackwise.training.rules import Backprop

FOUND = "_learned_coefficients"
"""Under which a module holds what was learned of it."""


def learn(model: Any, data: Any, wanted: Wanted) -> tuple[Any, Findings]:
    """The composed model, of the kind that was given, and what was learned."""
    wanted.check(data)
    joined = None
    if data is not None:
        joined = _joined(model, data, wanted)
    base = module_of(model) if joined is None else joined.model
    blocks = blocks_of(
        base, exclude=wanted.exclude, matrices=wanted.scaling == "weights"
    )  # fmt: skip
    vectors = task_vectors(_like(model, base), wanted.donors, blocks)
    if wanted.alpha is not None:
        composition = Composition(base, blocks, vectors, scaling="donor")
        summary = _arithmetic(composition, joined, wanted.alpha)
    else:
        assert joined is not None
        composition, summary = _learned(model, data, joined, blocks, vectors, wanted)
    strangers = sorted({name for vector in vectors for name in vector.left_out})
    summary |= {
        "donors": composition.donors, "blocks": len(composition.names),
        "coefficients": int(composition.allowed.sum()) * wanted.parts
        if wanted.scaling != "donor" else len(composition.donors),
        "left as in the base": list(blocks.left_out), "of donors left out": strangers,
    }  # fmt: skip
    if not bool(composition.values.detach().any()):
        summary["note"] = "no donor helped: the base comes out"
    table = composition.coefficients()
    network = composition.release()
    if wanted.head_epochs and joined is not None:
        network, scores = with_head_learned(
            network, joined, epochs=wanted.head_epochs, lr=wanted.head_lr,
            seed=wanted.random_state, device=wanted.device, time_limit=wanted.time_limit,
            chooses=wanted.keep == "best",
        )  # fmt: skip
        summary |= scores
    network.train(base.training)
    result = of_the_same_kind(model, joined, network)
    return result, Findings({"coefficients": table}, {}, summary)


def _joined(model: Any, data: Any, wanted: Wanted) -> Trainable:
    return trainable(
        model, data, loss=wanted.loss, batch_size=wanted.batch_size, seed=wanted.random_state
    )


def _like(model: Any, base: nn.Module) -> Any:
    """What deltas compare themselves with: the model itself, where data wrap it in another."""
    return model if module_of(model) is base else base


def _arithmetic(
    composition: Composition, joined: Trainable | None, alpha: float | Literal["search"]
) -> dict[str, Any]:
    """Set one number everywhere: the given one, or of 21 the one that is best on held-out data."""
    if isinstance(alpha, float):
        set_all(composition, alpha)
        return {"alpha": alpha}
    assert joined is not None
    sign = 1 if joined.mode == "min" else -1
    scores = scores_by_alpha(composition, lambda network: score_of(joined, network))
    best = min(scores, key=lambda one: (sign * scores[one], one))
    set_all(composition, best)
    return {
        "alpha": best, f"{watched(joined)} before": scores[0.0],
        f"{watched(joined)} after": scores[best],
    }  # fmt: skip


def _learned(
    model: Any, data: Any, joined: Trainable, blocks: Blocks, vectors: Sequence[TaskVector],
    wanted: Wanted,
) -> tuple[Composition, dict[str, Any]]:  # fmt: skip
    """Learn the coefficients, and have the base where they are no better."""
    others = [
        _joined(model, one, wanted) for one in wanted.sources(wanted.control, data, "control")
    ]
    allowed = _allowed(model, data, joined, blocks, vectors, wanted)
    composition = Composition(
        joined.model, blocks, vectors, scaling=wanted.scaling, parts=wanted.parts, allowed=allowed,
        linearised=wanted.linearised, seed=wanted.random_state,
    )  # fmt: skip
    rule, batches = _rule(composition, joined, others, wanted)
    before = rule.validate(composition) if rule.monitor else {}
    steps = len(batches)
    epochs = max(wanted.epochs, math.ceil(wanted.min_steps / steps))
    if epochs:
        trained = train(
            composition, rule, batches, max_epochs=epochs, seed=wanted.random_state,
            device=wanted.device, time_limit=wanted.time_limit, name="scale",
        )  # fmt: skip
        composition = trained.model  # type: ignore[assignment]
    after = rule.validate(composition) if rule.monitor else {}
    summary: dict[str, Any] = {"objective": wanted.objective}
    if rule.monitor is not None:
        if no_better(after[rule.monitor], before[rule.monitor], rule.mode):
            with torch.no_grad():
                composition.values.zero_()
            after = before
        summary |= {f"{name} before": value for name, value in before.items()}
        summary |= {f"{name} after": value for name, value in after.items()}
    return composition, summary


def _allowed(
    model: Any, data: Any, joined: Trainable, blocks: Blocks, vectors: Sequence[TaskVector],
    wanted: Wanted,
) -> torch.Tensor | None:  # fmt: skip
    """The donors that each block may take, within the budget."""
    if wanted.budget is None:
        return None
    names = [name for name in blocks.weights if any(name in one.parts for one in vectors)]
    found: dict[str, Any] = {}
    if wanted.budget <= len(vectors) and wanted.select.startswith("grad"):
        whole = Composition(joined.model, blocks, vectors)
        found["gradient"] = gradient_at_zero(whole, joined, joined.loss)
    if wanted.select == "features":
        sources = wanted.sources(wanted.donor_data, data, "donor_data")
        if len(sources) != len(vectors):
            raise DataError(
                f"donor_data names {len(sources)} sources for {len(vectors)} donors: give one each"
            )
        parts = [_joined(model, one, wanted) for one in sources]
        network = joined.model.eval()
        found["target"] = mean_feature(network, joined)
        found["donors"] = [mean_feature(network, one) for one in parts]
    return allowed_donors(
        wanted.select, wanted.budget, (len(vectors), len(names)), seed=wanted.random_state, **found
    )


def _rule(
    composition: Composition, joined: Trainable, others: list[Trainable], wanted: Wanted
) -> tuple[Backprop, Any]:
    """How a step learns, and from which batches."""
    options: dict[str, Any] = {
        "lr": wanted.lr, "weight_decay": wanted.weight_decay, "schedule": wanted.schedule,
        "decay": lambda name, parameter: True,
    }  # fmt: skip
    penalties = {"l1": wanted.l1, "l2": wanted.l2}
    if wanted.objective in UNLABELLED:
        first = next(iter(joined.batches.epoch(0)))
        if wanted.objective != "simclr":
            check_classes(joined.loss, composition.network, first)
        if wanted.objective == "entropy":
            return SharpnessAware(joined.loss, **penalties, **options), joined.batches
        if wanted.objective == "ufm":
            samples = Unlabelled(
                joined.batches, joined.loss, lambda: composition.composed(),
                size=wanted.batch_size or rows_of(first) or 1, seed=wanted.random_state,
            )  # fmt: skip
            return FixMatch(samples, wanted.sharpen, **penalties, **options), samples
        return Backprop(watched_loss(of_contrast(joined.loss), **penalties), **options), (
            joined.batches
        )
    every = [joined, *others]
    batches: Any = joined.batches
    of_network: Loss = joined.loss
    if others:
        batches = SideBySide(joined.batches, [one.batches for one in others])
        of_network = added([one.loss for one in every], forget=wanted.objective == "negate")
    if wanted.keep == "best":
        options |= _watching(composition, joined, others, wanted)
    return Backprop(watched_loss(of_network, **penalties), **options), batches


def _watching(
    composition: Composition, joined: Trainable, others: list[Trainable], wanted: Wanted
) -> dict[str, Any]:
    """What better means: `validate`, `monitor` and `mode` of the rule. The plain composed network
    is judged, which is what comes out.
    """
    base = composition.composed()
    mode: Any = "min"
    if wanted.objective == "negate":
        judge = forgetting(joined, others, wanted.control_kept, base)
        monitor = "remembered"
    elif others:
        judge = relative([joined, *others], [score_of(one, base) for one in (joined, *others)])
        monitor, mode = "relative", joined.mode
    else:
        monitor, mode = watched(joined), joined.mode

        def judge(network: nn.Module) -> Mapping[str, float]:
            if joined.validate is not None:
                return joined.validate(network)
            return {monitor: mean_loss(joined, network)}

    return {
        "validate": lambda model: judge(model.composed()), "monitor": monitor, "mode": mode,
    }  # fmt: skip
