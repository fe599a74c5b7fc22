"""The knobs of how members are trained and probed."""

from typing import Annotated, Literal

from stackwise.knobs import Knob


def sharing_knobs(
    *,
    together: Annotated[
        bool | Literal["auto"], Knob("train the members as one network; auto: where it is faster")
    ] = "auto",
    workers: Annotated[int, Knob("processes in which members are trained side by side", ge=1)] = 1,
    on: Annotated[
        str | None, Knob("train members on a Ray cluster: ray, or ray://host:port")
    ] = None,
    threads: Annotated[int | None, Knob("threads of the CPU", ge=1)] = None,
    device: Annotated[str, Knob("auto, cpu, cuda or mps")] = "auto",
    time_limit: Annotated[float | None, Knob("seconds of training", gt=0)] = None,
    random_state: Annotated[int | None, Knob("the seed, from which the members' come", ge=0)] = 0,
    verbose: Annotated[bool, Knob("print a line an epoch")] = False,
) -> None:
    """Where and how the members are trained."""


def probe_knobs(
    *,
    head: Annotated[
        Literal["cat", "sub"],
        Knob("one probe on all features, or one a member, whose probabilities are averaged"),
    ] = "cat",
    C: Annotated[
        float | None, Knob("inverse penalty of the probe; none: chosen on held-out rows", gt=0)
    ] = None,
    norm: Annotated[
        Literal["standard", "none"], Knob("what becomes of features before the probe")
    ] = "standard",
    validation: Annotated[
        float, Knob("part of the rows that stops members and chooses C; 0 = none", ge=0, lt=1)
    ] = 0.2,
) -> None:
    """The probe on the features."""
