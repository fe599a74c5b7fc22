"""The entry point: a model and data in, a sparse fine-tuning out; the model stays as it is."""

import copy
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from torch import Tensor, nn

from stackwise.adapt.composable_sft.delta import SparseFineTuning, learned
from stackwise.adapt.composable_sft.phases import Concluded, Plan, Rounds
from stackwise.adapt.composable_sft.places import (
    Places,
    encoder_hash,
    places_in,
    prefix_of,
    untied,
    with_statistics_held,
)
from stackwise.adapt.composable_sft.selection import Scores, denoised, moved
from stackwise.catalog import Knob, transform
from stackwise.errors import KnobError
from stackwise.learning.trainable import trainable
from stackwise.models import half_types
from stackwise.protocols import Heads
from stackwise.training import train_phases
from stackwise.training.knobs import placed, seeded, tuned
from stackwise.training.session import current_session

SCORES: dict[str, Scores] = {"movement": moved, "denoised": denoised}


@transform(
    "composable-sft",
    title="Sparse fine-tunings that are added up",
    paper="2110.07560",
    cost="trains twice: all weights, then the selected entries alone",
    gives="delta",
    budget="epochs",
    presets={"quick": {"epochs": 2}, "standard": {}, "best": {"epochs": 20}},
    verified="tests/adapt/test_composable_sft_parity.py",
    shared=(tuned, placed, seeded),
)
def composable_sft(
    model: Any,
    data: Any = None,
    *,
    k: Annotated[
        float,
        Knob(
            "entries that change: a share of those that could, above 1 their number",
            ge=0,
            log=True,
            search=(0.01, 0.3),
        ),
    ] = 0.05,
    select: Annotated[
        Literal["movement", "random", "denoised", "biases"], Knob("which entries these are")
    ] = "movement",
    iterations: Annotated[int, Knob("rounds, each of which selects a part of them", ge=1)] = 1,
    sparse_epochs: Annotated[
        int | None, Knob("passes of the second phase; none is as many as of the first", ge=1)
    ] = None,
    l1_full: Annotated[
        float, Knob("penalty towards the base in the first phase", ge=0, log=True)
    ] = 0.0,
    l1_sparse: Annotated[
        float, Knob("penalty towards the base in the second phase", ge=0, log=True)
    ] = 0.0,
    l1_on: Annotated[
        Literal["all", "maskable"], Knob("what the penalties hold: heads too, or not")
    ] = "all",
    freeze: Annotated[
        list[str] | None, Knob("weights that stay, by pieces of names; none is all norms")
    ] = None,
    heads: Annotated[
        list[str] | None,
        Knob("weights of this job alone, by pieces of names; none is what is no encoder"),
    ] = None,
    exact: Annotated[
        bool, Knob("keep differences in float64: put on, they give the trained weights to the bit")
    ] = False,
    lr: Annotated[
        float, Knob("learning rate of AdamW", gt=0, log=True, search=(1e-5, 3e-3))
    ] = 5e-5,
    schedule: Annotated[
        Literal["constant", "cosine", "linear"], Knob("how the learning rate falls")
    ] = "linear",
    loss: Callable[..., Tensor] | None = None,
    score: Scores | None = None,
    epochs: int,
    weight_decay: float,
    batch_size: int | None,
    time_limit: float | None,
    device: str,
    random_state: int,
) -> SparseFineTuning:
    """Find the few entries of a model's weights that matter for new data, and fine-tune them alone.

    Args:
        model: an encoder, a decoder, a vision model, any module, or a fitted learner. Deltas that
            are on it belong to the base of what is learned. It is not changed.
        data: what `stackwise.learning.trainable` takes. Where a task's answers want a head that
            the model lacks, one is put on, and is a part of what is learned.
        loss: for a module whose batches give no `.loss`.
        score: in place of `select`: changes by name -> how much each entry matters.

    Returns:
        The difference: `.on(model)`, `.put`, `.take_off`, `.merge`, `a + b`, `0.5 * a`, `.save`.

    Raises:
        KnobError: more entries are asked for than there are, or knobs do not go together.
        ModelError: nothing can change, or numbers are quantised.
    """
    if epochs == 0:
        raise KnobError(
            "epochs=0 trains nothing, and what training changes is kept; give 1 or more"
        )
    if isinstance(data, Heads) and isinstance(model, nn.Module):
        model = data.headed(model)
    joined = trainable(model, data, loss=loss, batch_size=batch_size, seed=random_state)
    network: Any = copy.deepcopy(joined.model)
    if any(parameter.dtype in half_types() for parameter in network.parameters()):
        network = network.float()  # half precision loses small differences
    network = with_statistics_held(untied(network))
    places = places_in(network, freeze, heads)
    base = encoder_hash(network, places.heads)
    plan = _plan(places, k, select, iterations, score, epochs, sparse_epochs, random_state)
    every = sum(parameter.numel() for parameter in network.parameters())
    options = {"lr": lr, "weight_decay": weight_decay, "schedule": schedule}
    rounds = Rounds(
        network, places, plan, joined, options, heads_held=l1_on == "all",
        strengths=(l1_full / every, l1_sparse / every),
    )  # fmt: skip
    trained = train_phases(
        network, rounds.phases(), seed=random_state, device=device, time_limit=time_limit
    )
    return _difference(rounds.concluded(trained), rounds, base, data, exact)


def _plan(
    places: Places, k: float, select: str, iterations: int, score: Scores | None, epochs: int,
    sparse_epochs: int | None, seed: int,
) -> Plan:  # fmt: skip
    """What is asked, as counts.

    Raises:
        KnobError: more entries are asked for than there are; rounds that select nothing.
    """
    if k > 1 and not float(k).is_integer():
        raise KnobError(f"k={k:g} is no number of entries: give a whole number, or a share up to 1")
    count = int(k) if k > 1 else int(k * places.entries)
    if count > places.entries:
        raise KnobError(f"asked for {count:,} of {places.entries:,} entries; give k as a share")
    everywhere = count == places.entries and select != "biases"
    ranked = score or SCORES.get(select)
    if iterations > 1 and (everywhere or select == "biases" or count < iterations):
        raise KnobError(
            f"iterations={iterations} has nothing to select in each round; leave it at 1"
        )
    return Plan(
        count=count, rounds=iterations, score=None if everywhere or not count else ranked,
        full=epochs, sparse=sparse_epochs or epochs, seed=seed,
        everywhere=everywhere, only_biases=select == "biases" and score is None,
    )  # fmt: skip


def _difference(
    done: Concluded, rounds: Rounds, base: str, data: Any, exact: bool
) -> SparseFineTuning:
    """What training made of the base, as a delta; where it was cut short that is said."""
    network: Any = done.model
    told = current_session().on_event
    if done.cut and told is not None:
        told({"phase": "sparse", "note": "the time was over before the last sparse phase"})
    prefix, ends = prefix_of(network), dict(network.named_parameters())

    def begins(names: Iterable[str]) -> dict[str, Tensor]:
        return {name: rounds.base[name] for name in names}

    parts = learned(begins(rounds.places.maskable), ends, done.masks, exact=exact)
    head = learned(begins(rounds.places.heads), ends, None, exact=True)
    config = getattr(network, "config", None)
    named = getattr(data, "classes", None) if isinstance(data, Heads) else None
    return SparseFineTuning(
        {name.removeprefix(prefix): part for name, part in parts.items()}, head=head,
        classes=None if named is None or config is None or not head else list(named),
        pad=getattr(config, "pad_token_id", None), entries=rounds.places.entries,
        head_names=list(rounds.places.heads), cut=done.cut, base=base,
        method="composable-sft",
    )  # fmt: skip
