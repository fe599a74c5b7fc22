"""The knobs that all learners and the transform share: which sub-models there are, and how a step
draws them.
"""

from typing import Annotated, Any, Literal, cast

from stackwise.catalog import Knob
from stackwise.train.sortednet.reading import Spread
from stackwise.train.sortednet.rule import Drawing, Scheme
from stackwise.train.sortednet.spaces import Choice


def sorting_knobs(
    *,
    widths: Annotated[
        list[float] | None, Knob("sizes of the width: shares such as 0.5,1.0, or units")
    ] = None,
    depths: Annotated[
        list[float] | None, Knob("depths; none: every one of 8 blocks, else 8 of them")
    ] = None,
    head_counts: Annotated[
        list[float] | None, Knob("sizes of the attention heads; none: as the width")
    ] = None,
    ffns: Annotated[
        list[float] | None, Knob("sizes of the hidden units; none: as the width")
    ] = None,
    spread: Annotated[
        Literal["first", "even"], Knob("blocks of a shallower one: the first, or spread evenly")
    ] = "first",
    scheme: Annotated[
        Literal["sampled", "same-batch", "all", "sandwich", "progressive", "truncate"],
        Knob("which sub-models a step trains; truncate trains the whole alone"),
    ] = "sampled",
    accumulate: Annotated[
        int | None, Knob("draws a step whose gradients are averaged; none: the scheme's", ge=1)
    ] = None,
    probability: Annotated[
        Literal["uniform", "largest", "geometric"] | list[float],
        Knob("how often each sub-model is drawn; or weights, the smallest first"),
    ] = "uniform",
    full_probability: Annotated[
        float | Literal["falling"], Knob("that the whole network is in a step", ge=0, le=1)
    ] = 0.0,
) -> None:
    """Only the signature counts."""


def choice_of(knobs: Any) -> Choice:
    """The sizes that knobs ask for: attributes of a learner."""
    return Choice(
        knobs.widths, knobs.depths, knobs.head_counts, knobs.ffns, knobs.probability
    )  # fmt: skip


def drawing_of(knobs: Any) -> Drawing:
    """How they have a step draw."""
    return Drawing(cast(Scheme, knobs.scheme), knobs.accumulate, knobs.full_probability)


def spread_of(knobs: Any) -> Spread:
    """Which blocks stay."""
    return cast(Spread, knobs.spread)
