"""The transform: a frozen model and a domain's data in, a stack for that domain out.

stackwise apply brainstacks MODEL --data code.jsonl --set name=code --out b/code
stackwise apply brainstacks MODEL+b/code --data sums.jsonl --set name=math --out b/math
stackwise apply brainstacks MODEL+b/code+b/math --data both.jsonl --set learn=router --out b/r
stackwise generate MODEL+b/code+b/math+b/r "prompt"
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from stackwise.adapt.brainstacks.delta import ExpertDelta, check_name
from stackwise.adapt.brainstacks.experts import stack_scale
from stackwise.adapt.brainstacks.rounds import Plan, learn_domain
from stackwise.adapt.brainstacks.routing import RouterDelta, samples_of, train_router
from stackwise.adapt.brainstacks.switch import Switch
from stackwise.adapt.delta import Delta, base_hash, deltas_on
from stackwise.catalog import Knob, transform
from stackwise.errors import KnobError, ModelError
from stackwise.learning.trainable import Trainable, trainable
from stackwise.training.knobs import placed, seeded

TITLE = "Skills added one by one, as frozen stacks of small experts"
CARD: dict[str, Any] = {
    "title": TITLE,
    "paper": "2604.01152",
    "verified": "tests/adapt/test_brainstacks_parity.py",
}
TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@transform(
    "brainstacks",
    cost="trains small experts beside every linear layer, a round or two",
    takes=("decoder", "encoder", "vision", "module", "learner"),
    gives="delta",
    budget="steps",
    presets={
        "quick": {"steps": 40, "rank": 4, "rounds": 1, "evaluate_every": 20, "hidden": 32},
        "standard": {}, "best": {"rounds": 3, "steps": 800},
    },
    shared=(placed, seeded),
    **CARD,
)  # fmt: skip
def brainstacks(
    model: Any,
    data: Any = None,
    *,
    name: Annotated[str, Knob("what the domain is called, in files and tables")] = "domain",
    learn: Annotated[
        Literal["stack", "router"],
        Knob("a domain's stack, or the router of those that are on the model"),
    ] = "stack",
    rounds: Annotated[int, Knob("stacks of the domain, each on top of those before", ge=1)] = 2,
    steps: Annotated[int, Knob("steps of a round", ge=1)] = 400,
    experts: Annotated[int, Knob("experts of a stack; 1 is LoRA", ge=1, le=64)] = 4,
    top_k: Annotated[int, Knob("experts that a token takes", ge=1)] = 2,
    rank: Annotated[int, Knob("of each expert", ge=1, search=(4, 32))] = 16,
    alpha: Annotated[float, Knob("scale of what is added: alpha / sqrt(rank)", gt=0)] = 16.0,
    rslora: Annotated[bool, Knob("that scale; else LoRA's alpha / rank")] = True,
    noisy: Annotated[bool, Knob("a noisy choice of experts in training")] = True,
    targets: Annotated[
        list[str] | None, Knob("endings of layers' names; none: every linear layer of the blocks")
    ] = None,
    balance: Annotated[float, Knob("weight of the experts' equal use in the loss", ge=0)] = 0.01,
    null_space: Annotated[
        Literal["fold", "train-only", "off"],
        Knob("keep out of earlier domains' directions: for good, as the release does, or not"),
    ] = "fold",
    null_dirs: Annotated[
        int | None, Knob("directions of a layer that are closed; none: 64, a quarter at most", ge=1)
    ] = None,
    null_samples: Annotated[int, Knob("samples that the directions come from", ge=1)] = 400,
    null_from: Annotated[
        Literal["previous", "new"],
        Knob("samples of the earlier domains, or as the release does of the new one"),
    ] = "previous",
    min_gain: Annotated[float, Knob("held-out loss that another round must have gained", ge=0)] = (
        0.002
    ),
    patience: Annotated[
        int | None, Knob("looks without a better loss before a round ends", ge=1)
    ] = 4,
    spike: Annotated[
        float | None, Knob("loss above the best at which a round ends at once", gt=0)
    ] = 0.1,
    evaluate_every: Annotated[int, Knob("steps between looks at held-out data", ge=1)] = 50,
    precision_frozen: Annotated[
        Literal["float16", "bfloat16", "float32"], Knob("type of the stacks that are done")
    ] = "float16",
    lr: Annotated[float, Knob("learning rate", gt=0, log=True, search=(5e-5, 5e-3))] = 2e-4,
    weight_decay: Annotated[float, Knob("decoupled weight decay", ge=0)] = 0.01,
    warmup: Annotated[float, Knob("share of a round over which the rate rises", ge=0, lt=1)] = 0.1,
    batch_size: Annotated[
        int | None, Knob("rows a step where the model does not say; none is the data's", ge=1)
    ] = None,
    samples: Annotated[int, Knob("prompts that the router learns from", ge=10)] = 200,
    tokens: Annotated[int, Knob("of a prompt that the router looks at", ge=1)] = 256,
    hidden: Annotated[int, Knob("width of the router", ge=4)] = 512,
    router_epochs: Annotated[int, Knob("passes of the router over its prompts", ge=1)] = 8,
    router_lr: Annotated[float, Knob("learning rate of the router", gt=0, log=True)] = 8e-4,
    threshold: Annotated[
        float, Knob("weight up to which the router leaves a domain out", ge=0, lt=1)
    ] = 0.12,
    floor: Annotated[
        dict[str, float] | None, Knob("domains that the router never weighs less than so much")
    ] = None,
    half: Annotated[
        list[str] | None, Knob("domains whose target is 0.5 where they help and are not needed")
    ] = None,
    time_limit: Annotated[float | None, Knob("seconds of training", gt=0)] = None,
    loss: Callable[..., Tensor] | None = None,
    validation: Any = None,
    device: str,
    random_state: int,
) -> Delta:
    """Learn a stack of small experts for a domain, beside a frozen model and its earlier stacks.

    Args:
        model: an `nn.Module`, a model of transformers or a fitted learner, on which the deltas of
            earlier domains may be. It is not changed.
        data: what `stackwise.learning.trainable` takes: a loaded task, (X, y), or batches. For the
            router also a dict of such, by domain; samples whose domain is known so teach it a fifth
            of their target.
        loss: for a module whose batches give no `.loss`.
        validation: held-out data of the same form, for batches or tensors, which have none. Without
            any, a round keeps its last stack, and all rounds are made.

    Returns:
        an `ExpertDelta` with the one domain, or a `RouterDelta`.

    Raises:
        KnobError: knobs that do not go together. ModelError: no layer to stand beside, no direction
            left, or a router asked for without stacks. NothingLearned: so it says.
    """
    check_name(name)
    if learn == "router":
        return _router(
            model, data, loss, floor or {}, half or [], name=name, samples=samples, tokens=tokens,
            hidden=hidden, epochs=router_epochs, lr=router_lr, threshold=threshold,
            batch_size=batch_size, seed=random_state, device=device, time_limit=time_limit,
        )  # fmt: skip
    joined = joined_with(model, data, loss, batch_size, random_state, validation)
    kept = [
        domain.directions
        for delta in deltas_on(model)
        if isinstance(delta, ExpertDelta)
        for domain in delta.domains.values()
    ]
    if name in _domains_on(model):
        raise KnobError(f"a domain {name!r} is on the model already: give this one another name")
    plan = Plan(
        rounds=rounds, steps=steps, experts=experts, top_k=top_k, rank=rank,
        scale=stack_scale(alpha, rank, rslora=rslora), balance=balance, noisy=noisy,
        targets=targets, null_space=null_space, null_dirs=null_dirs, null_samples=null_samples,
        null_from=null_from, min_gain=min_gain, patience=patience, spike=spike,
        evaluate_every=evaluate_every, dtype=TYPES[precision_frozen], lr=lr,
        weight_decay=weight_decay, warmup=warmup, seed=random_state, device=device,
        time_limit=time_limit,
    )  # fmt: skip
    domain = learn_domain(joined, name, plan, kept)
    return ExpertDelta({name: domain}, base=base_hash(model), method="brainstacks")


def joined_with(
    model: Any,
    data: Any,
    loss: Callable[..., Tensor] | None,
    batch_size: int | None,
    seed: int,
    validation: Any = None,
) -> Trainable:
    """A model and data, with a score on held-out data where there are any."""
    joined = trainable(model, data, loss=loss, batch_size=batch_size, seed=seed)
    if joined.validate is not None or validation is None:
        return joined
    held = trainable(model, validation, loss=loss, batch_size=batch_size, seed=0)

    @torch.no_grad()
    def validate(module: nn.Module) -> Mapping[str, float]:
        found = [float(held.loss(module, batch)) for batch in held.batches.epoch(0)]
        return {"loss": sum(found) / len(found)}

    joined.validate, joined.monitor = validate, "loss"
    return joined


def _domains_on(model: Any) -> list[str]:
    switch = Switch.on(getattr(model, "network_", model))
    return [] if switch is None else switch.domains


def _router(
    model: Any,
    data: Any,
    loss: Callable[..., Tensor] | None,
    floor: Mapping[str, float],
    half: list[str],
    *,
    name: str,
    samples: int,
    tokens: int,
    hidden: int,
    epochs: int,
    lr: float,
    threshold: float,
    batch_size: int | None,
    seed: int,
    device: str,
    time_limit: float | None,
) -> RouterDelta:
    domains = _domains_on(model)
    if not domains:
        raise ModelError(
            "a router switches the stacks that are on a model, and none is: put them on, MODEL+RUN"
        )
    for what, named in (("floor", floor), ("half", half)):
        strange = sorted(set(named) - set(domains))
        if strange:
            raise KnobError(
                f"{what} names {strange[0]!r}, which is not on; there is {', '.join(domains)}"
            )
    given = data if isinstance(data, dict) else {name: data}
    sources = {key: joined_with(model, one, loss, batch_size, seed) for key, one in given.items()}
    network = next(iter(sources.values())).model
    found = samples_of(
        network, sources, domains, count=samples, tokens=tokens, floor=floor, half=half
    )
    router = train_router(
        found, hidden=hidden, epochs=epochs, lr=lr, seed=seed, device=device, time_limit=time_limit
    )
    return RouterDelta(
        router, domains, threshold=threshold, floor=floor, tokens=tokens, base=base_hash(model),
        method="brainstacks",
    )  # fmt: skip
