"""The knobs that every detector has."""

from typing import Annotated, Literal

from stackwise.knobs import Knob


def detector_knobs(
    *,
    threshold: Annotated[
        Literal["pot", "quantile"] | float,
        Knob("where an alarm begins: by peaks over threshold, a quantile, or a score"),
    ] = "pot",
    level: Annotated[float, Knob("share of the normal scores that are peaks", gt=0, lt=0.5)] = 0.02,
    risk: Annotated[
        float, Knob("chance that a normal moment is above the threshold", gt=0, lt=0.5)
    ] = 1e-3,
    scale: Annotated[
        Literal["standard", "minmax", "none"], Knob("how channels come to one scale")
    ] = "standard",
    combine: Annotated[
        int | Literal["sum", "max"],
        Knob("how channels make one score: the sum, the largest, or the sum of so many", ge=1),
    ] = "sum",
    pad: Annotated[
        Literal["none", "first"],
        Knob("moments before the first window: no score, or those within that window"),
    ] = "none",
) -> None:
    """Only the signature counts; see `stackwise.catalog.learner`."""
