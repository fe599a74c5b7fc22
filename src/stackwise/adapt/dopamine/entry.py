"""The transform: a model and data in, a mode out, as a delta."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from stackwise.adapt.delta import base_hash, deltas_on, state_hash
from stackwise.adapt.dopamine.learning import Gain, Gates, ModeRule, on_frozen
from stackwise.adapt.dopamine.mode import TauGate
from stackwise.adapt.dopamine.passes import first_batches, passes
from stackwise.adapt.dopamine.starts import thresholds
from stackwise.adapt.dopamine.wiring import find_sites
from stackwise.catalog import Knob, transform
from stackwise.errors import KnobError, ModelError
from stackwise.learning.trainable import Trainable, trainable
from stackwise.training import train
from stackwise.training.distribution.devices import part_of_batch, rows_of
from stackwise.training.knobs import placed, seeded, tuned

LEARNED = ("tau", "gain", "bias")
ROWS, CALIBRATED = 2, 4
"""Rows of the batch by which layers are found; batches by which thresholds begin."""


@transform(
    "dopamine",
    title="Modes of a frozen network: a threshold and a gain a neuron",
    paper="2602.11726",
    gives="delta",
    having="activations",
    cost="trains two numbers a neuron; the model itself is left as it is",
    budget="epochs",
    presets={"quick": {"epochs": 1}, "standard": {}, "best": {"epochs": 20}},
    shared=(tuned, placed, seeded),
)
def dopamine(
    model: Any,
    data: Any = None,
    *,
    name: Annotated[str, Knob("what the mode is called")] = "mode",
    learn: Annotated[
        list[str] | None, Knob("which of tau, gain and bias; none is tau and gain")
    ] = None,
    layers: Annotated[
        list[str] | None,
        Knob("activations by name or pattern, or before>after; none is all of the blocks"),
    ] = None,
    init: Annotated[
        float | Literal["auto", "zero", "open"],
        Knob("where thresholds begin: 0, below all, or at this quantile", gt=0, lt=1),
    ] = "auto",
    sharpness: Annotated[float, Knob("of the gates, in the end", gt=0, log=True)] = 10.0,
    anneal_from: Annotated[
        float | None, Knob("sharpness at the beginning, from which it rises", gt=0)
    ] = None,
    gain: Annotated[Gain, Knob("a gain of any sign, or one that stays above 0")] = "plain",
    sparsity: Annotated[
        float, Knob("weight of the gates' mean in the loss; 0.3 where few neurons shall fire", ge=0)
    ] = 0.0,
    straight_through: Annotated[
        bool, Knob("learn with hard gates, by the gradient of soft ones")
    ] = False,
    context: Annotated[
        int, Knob("rank of thresholds that depend on the input, experimental; 0 is none", ge=0)
    ] = 0,
    form: Annotated[Literal["choose", "soft", "hard"], Knob("the gates that are kept")] = "choose",
    tolerance: Annotated[
        float, Knob("share by which the validation loss may rise where hard is chosen", ge=0)
    ] = 0.005,
    loss: Callable[..., Tensor] | None = None,
    epochs: Annotated[int, Knob("passes over the data", ge=1)] = 5,
    lr: Annotated[float, Knob("learning rate", gt=0, log=True, search=(1e-3, 3e-2))] = 1e-2,
    batch_size: int | None,
    weight_decay: float,
    device: str,
    time_limit: float | None,
    random_state: int,
) -> TauGate:
    """Learn a mode of a frozen model: for each neuron when it takes part, and how much.

    Args:
        model: an `nn.Module` or a fitted learner. It is not changed. Deltas of weights that are on
            stay on; the mode is then one of the model with those.
        data: what `stackwise.learning.trainable` takes: a loaded task, for a module also a list of
            batches, or (x, y) with `loss(output, y)`.
        loss: for a module whose batches give no `.loss`.

    Returns:
        the mode, to put on the model or a copy of it: `with mode.on(model)`. Where validation
        rows are there its `scores` are the losses of the soft and of the hard form.

    Raises:
        KnobError: knobs that do not go together. ModelError: no activation, or a mode is on.
    """
    roles = _learned(learn, sparsity, straight_through, context, anneal_from, form)
    joined = trainable(model, data, loss=loss, batch_size=batch_size, seed=random_state)
    network = joined.model
    if any(not one.in_weights for one in deltas_on(network)):
        raise ModelError(
            "a delta that is no change of weights is on this model: take it off, for a mode is "
            "learned beside weights alone"
        )
    base = state_hash(network) if deltas_on(network) else base_hash(network)
    gates = _gates(network, joined, roles, layers, init, anneal_from or sharpness, gain, context,
                   random_state)  # fmt: skip
    gates.form = "straight-through" if straight_through else "soft"
    rule = ModeRule(
        joined.loss, sparsity=sparsity, sharpness=sharpness, anneal_from=anneal_from, lr=lr,
        weight_decay=weight_decay, monitor=joined.monitor, mode=joined.mode,
        validate=None if joined.validate is None else lambda _: _score(joined, network),
    )  # fmt: skip
    with on_frozen(gates):
        train(
            gates, rule, joined.batches, max_epochs=epochs, seed=random_state, device=device,
            time_limit=time_limit, name="mode",
        )  # fmt: skip
        gates.sharpness = sharpness
        hard, scores = _form(form, gates, joined, tolerance, rule.monitor)
    knobs = {
        "name": name, "learn": roles, "layers": layers, "init": init, "sharpness": sharpness,
        "anneal_from": anneal_from, "gain": gain, "sparsity": sparsity, "context": context,
        "straight_through": straight_through, "form": form, "tolerance": tolerance,
        "epochs": epochs, "lr": lr, "batch_size": batch_size, "weight_decay": weight_decay,
        "random_state": random_state,
    }  # fmt: skip
    return TauGate(
        name, gates.sites, gates.numbers(), hard=hard, sharpness=sharpness, scores=scores,
        base=base, method="dopamine", knobs=knobs,
    )  # fmt: skip


def _learned(
    learn: list[str] | None,
    sparsity: float,
    straight_through: bool,
    context: int,
    anneal_from: float | None,
    form: str,
) -> list[str]:
    """What is learned.

    Raises:
        KnobError: a word is none of them; or a knob is given that thresholds alone have.
    """
    roles = ["tau", "gain"] if learn is None else list(dict.fromkeys(learn))
    strange = next((word for word in roles if word not in LEARNED), None)
    if strange is not None or not roles:
        raise KnobError(f"learn has {strange or 'nothing'}; it takes some of {', '.join(LEARNED)}")
    of_thresholds = {
        "sparsity": sparsity > 0, "straight_through": straight_through, "context": context > 0,
        "anneal_from": anneal_from is not None, "form=hard": form == "hard",
    }  # fmt: skip
    given = next((knob for knob, there in of_thresholds.items() if there), None)
    if "tau" not in roles and given is not None:
        raise KnobError(f"{given} is about thresholds, and learn={','.join(roles)} has none")
    return roles


def _gates(
    network: nn.Module,
    joined: Trainable,
    roles: list[str],
    layers: list[str] | None,
    init: Any,
    sharpness: float,
    gain: Gain,
    context: int,
    seed: int,
) -> Gates:
    """Gates for a network, found and begun by the first batches."""
    first = first_batches(joined, CALIBRATED)
    few = part_of_batch(first[0], 0, max((rows_of(first[0]) or 1) // ROWS, 1))
    sites = find_sites(network, passes(joined, [few])[0], layers)
    starts: dict[str, Tensor] = {}
    if "tau" in roles:
        starts = thresholds(network, sites, init, passes(joined, first), sharpness)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Gates(network, sites, starts, learn=roles, gain=gain, context=context)


def _score(joined: Trainable, network: nn.Module) -> Mapping[str, float]:
    assert joined.validate is not None
    return joined.validate(network)


@torch.no_grad()
def _form(
    form: str, gates: Gates, joined: Trainable, tolerance: float, monitor: str | None
) -> tuple[bool, dict[str, float]]:
    """Whether the gates shall be hard, and the losses of both forms where they are known."""
    if "tau_0" not in dict(gates.named_parameters()):
        return False, {}
    if joined.validate is None or monitor is None:
        return form == "hard", {}
    scores = {}
    for one in ("soft", "hard"):
        gates.form = one  # type: ignore[assignment]  # both are forms
        scores[one] = float(_score(joined, gates.__dict__["base"])[monitor])
    rise = scores["hard"] - scores["soft"]
    if joined.mode == "max":
        rise = -rise
    chosen = rise <= tolerance * abs(scores["soft"])
    return (chosen if form == "choose" else form == "hard"), scores
