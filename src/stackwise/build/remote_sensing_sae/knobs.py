"""The knobs of the autoencoders, which the transformer and the mapper share."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from stackwise.catalog import Knob
from stackwise.errors import KnobError

STAGES = ((6, 4), (10, 5), (15, 10, 5))
"""Hidden widths of the paper's three encoders."""


def autoencoder_knobs(
    *,
    stages: Annotated[
        Sequence[Sequence[int]], Knob("widths of each stage's hidden layers, as [[6,4],[10,5]]")
    ] = STAGES,
    code_dim: Annotated[int, Knob("numbers of a code", ge=1, le=1024, search=(2, 5))] = 2,
    activity_l1: Annotated[
        float, Knob("weight of the activity penalty", ge=0, search=(0.0, 1e-3))
    ] = 1e-4,
    epochs: Annotated[
        int | Sequence[int], Knob("passes over the pixels, of each stage or of all alike", ge=1)
    ] = (10, 5, 5),
    batch_size: Annotated[
        int | Sequence[int], Knob("pixels a step, of each stage or of all alike", ge=1)
    ] = (64, 32, 16),
    scale_stages: Annotated[
        bool, Knob("bring what a later stage reads to 0 to 1, the range of its output")
    ] = False,
    joint_epochs: Annotated[
        int, Knob("passes at the end in which all stages learn together", ge=0)
    ] = 0,
    lr: Annotated[float, Knob("learning rate of Adam", gt=0, log=True, search=(1e-4, 1e-2))] = 1e-3,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Knob("type of the matrix products; auto is bfloat16 on CUDA, else float32"),
    ] = "float32",
    device: Annotated[str, Knob("auto, cpu, cuda or mps")] = "auto",
    threads: Annotated[int | None, Knob("threads of the CPU", ge=1)] = None,
    time_limit: Annotated[float | None, Knob("seconds of training", gt=0)] = None,
    random_state: Annotated[int | None, Knob("the seed", ge=0)] = 0,
    verbose: Annotated[bool, Knob("print a line an epoch")] = False,
) -> None:
    """Only the signature counts; see `stackwise.catalog.learner`."""


def a_stage(name: str, value: Any, stages: int) -> list[int]:
    """The value of each stage.

    Raises:
        KnobError: they are not as many as stages, or one is no whole number above 0.
    """
    found = [value] * stages if isinstance(value, int) else list(value)
    if len(found) != stages:
        raise KnobError(f"{name}={list(found)} names {len(found)} of {stages} stages")
    for one in found:
        if isinstance(one, bool) or not isinstance(one, int) or one < 1:
            raise KnobError(f"{name} must be at least 1 in each stage, got {one!r}")
    return found


def widths_of(stages: Any) -> list[list[int]]:
    """The hidden widths of each stage.

    Raises:
        KnobError: they are none.
    """
    found = [list(one) if isinstance(one, (list, tuple)) else one for one in stages]
    good = found and all(
        isinstance(one, list) and one and all(isinstance(w, int) and w >= 1 for w in one)
        for one in found
    )
    if not good:
        raise KnobError(f"stages must be lists of widths such as [[6,4],[10,5]], got {stages!r}")
    return found
