"""The knobs that say which blocks a network has, and how far its convolutions see."""

from typing import Annotated, Any, Literal

from stackwise.build.tcnca.sizes import Sizes
from stackwise.build.tcnca.trunk import cautions, reach
from stackwise.catalog import Knob
from stackwise.errors import KnobError
from stackwise.layers.dilated_conv import stack_reaching
from stackwise.training import rules


def block_knobs(
    *,
    width: Annotated[
        int, Knob("numbers of the stream at a moment", ge=2, log=True, search=(16, 128))
    ] = 64,
    blocks: Annotated[int, Knob("blocks", ge=1, le=64, search=(1, 4))] = 2,
    chunk: Annotated[int, Knob("moments that attend to each other", ge=1, log=True)] = 64,
    operator: Annotated[
        Literal["tcn", "ema", "none"],
        Knob("what carries the long range: dilated convolutions, MEGA's averages, or nothing"),
    ] = "tcn",
    form: Annotated[
        Literal["gated", "simple"], Knob("gated, or simple: no products and sums of streams")
    ] = "gated",
    attention: Annotated[bool, Knob("attend inside chunks")] = True,
    kernel_size: Annotated[int, Knob("taps of a convolution", ge=2, le=1024)] = 7,
    dilation_factor: Annotated[
        int | None, Knob("by which dilations grow; none: as the reach needs", ge=1)
    ] = None,
    depth: Annotated[
        int | None, Knob("convolutions of a block; none: as the reach needs", ge=1, le=32)
    ] = None,
    reach: Annotated[
        int | None, Knob("moments that the convolutions of a block see; none: the whole", ge=1)
    ] = None,
    convs_per_block: Annotated[int, Knob("convolutions of one dilation in a row", ge=1, le=4)] = 1,
    averages: Annotated[int, Knob("of operator ema: speeds of a channel", ge=1, le=256)] = 16,
    activation: Annotated[Literal["softmax", "laplace", "relu2"], Knob("of attention")] = "softmax",
    bias: Annotated[
        Literal["rotary", "simple"], Knob("of attention, by the offset: turned, or a table")
    ] = "rotary",
    norm: Annotated[
        Literal["layer", "scale", "batch"], Knob("over the stream; batch: not where causal")
    ] = "layer",
    norm_first: Annotated[bool, Knob("norm before each part, not behind it")] = True,
    z_dim: Annotated[
        int | None, Knob("numbers of queries and keys; none: half of the width", ge=2)
    ] = None,
    v_dim: Annotated[int | None, Knob("numbers of values; none: twice the width", ge=1)] = None,
    ffn_dim: Annotated[
        int | None, Knob("hidden units of the feed-forward part; none: as many as values", ge=1)
    ] = None,
    dropout: Annotated[
        float, Knob("probability that a unit is dropped", ge=0, lt=1, search=(0.0, 0.4))
    ] = 0.0,
) -> None:
    """Which blocks a network of TCNCA has."""


Ways = Annotated[
    Literal["symmetric", "two-way", "causal"],
    Knob("what convolutions see: both sides by one filter, by one each, or the past alone"),
]


def sizes_of(learner: Any, length: int, direction: str) -> dict[str, Any]:
    """The sizes that a learner's knobs ask for, for sequences of a length, as `Sizes` takes them.

    Raises:
        KnobError: knobs contradict each other.
    """
    kernel, factor, depth = learner.kernel_size, learner.dilation_factor, learner.depth
    if learner.reach is not None and (factor is not None or depth is not None):
        raise KnobError("reach is what dilation_factor and depth make: give it, or both of these")
    if (factor is None) != (depth is None):
        raise KnobError("dilation_factor and depth go together: give both, or reach")
    if factor is None:
        symmetric = direction == "symmetric"
        if symmetric and kernel % 2 == 0:
            raise KnobError(
                f"kernel_size must be odd where both sides are seen alike, got {kernel}"
            )
        wanted = max(learner.reach or length, learner.chunk + 1 if learner.reach is None else 1)
        _, factor, depth = stack_reaching(wanted, kernel_size=kernel)
    z_dim = learner.z_dim or max(2, learner.width // 4 * 2)
    v_dim = learner.v_dim or 2 * learner.width
    return {
        "dim": learner.width, "v_dim": v_dim, "z_dim": z_dim,
        "ffn_dim": learner.ffn_dim or v_dim, "chunk": learner.chunk, "direction": direction,
        "operator": None if learner.operator == "none" else learner.operator,
        "form": learner.form, "attention": learner.attention, "norm": learner.norm,
        "norm_first": learner.norm_first, "activation": learner.activation, "bias": learner.bias,
        "kernel_size": kernel, "dilation_factor": factor, "depth": depth,
        "convs_per_block": learner.convs_per_block, "averages": learner.averages,
        "dropout": learner.dropout,
    }  # fmt: skip


def told(sizes: dict[str, Any], blocks: int, length: int, cost: int | None) -> list[str]:
    """What a fit says of its network: how far it sees, what a sequence costs, and cautions."""
    own = Sizes(**sizes)
    seen = reach(own, blocks)
    far = "no end" if seen is None else f"{seen:,} moments"
    notes = [f"receptive field: {far}; chunks of {own.chunk} attend to themselves"]
    if cost is not None:
        notes[0] += f"; {cost:,} multiply-adds for {length:,} moments"
    short = length <= own.chunk  # one chunk: nothing has to pass from one to another
    return notes + [one for one in cautions(own) if not (short and "chunk" in one)]


def decays(name: str, parameter: Any) -> bool:
    """Whether weight decay acts on a parameter: not on rates, scales and biases."""
    last = name.rpartition(".")[2]
    kept = ("delta", "alpha", "beta", "gamma", "scale", "shift", "bias", "omega", "table")
    return last not in kept and rules.decays(name, parameter)
