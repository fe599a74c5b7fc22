"""The transform: any decoder in, one that sees out."""

from typing import Annotated, Any

from stackwise.build.deepstack.learner import (
    CARD,
    CropsKnob,
    DeepStackVQA,
    GridKnob,
    IntervalKnob,
    MergeKnob,
    SamplingKnob,
    SplitKnob,
    StartKnob,
    TapsKnob,
    VariantKnob,
)
from stackwise.catalog import Knob, ModelRef, transform
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.protocols import Task
from stackwise.training.knobs import placed, seeded, tuned


@transform(
    "deepstack",
    tasks=("vqa",),
    takes=("decoder",),
    gives="learner",
    budget="epochs",
    shared=(tuned, placed, seeded),
    presets={
        "quick": {"start": 0, "side": 14, "epochs": 2},
        "standard": {},
        "best": {"epochs": 30},
    },
    **CARD,
)
def deepstack(
    model: Any,
    data: Any = None,
    *,
    vision: Annotated[
        ModelRef | str | None, Knob("the vision transformer; none makes a small new one")
    ] = None,
    side: Annotated[
        int | None, Knob("pixels of a view; none: 28, of a given tower 224", ge=1)
    ] = None,
    variant: VariantKnob = "L",
    sampling: SamplingKnob = "spatial",
    grid: GridKnob = 2,
    max_crops: CropsKnob = 4,
    start: StartKnob = 1,
    interval: IntervalKnob = 1,
    split: SplitKnob = None,
    taps: TapsKnob = None,
    merge: MergeKnob = 2,
    tune_model: Annotated[bool, Knob("let the language model learn, too")] = False,
    tune_vision: Annotated[
        bool | None, Knob("let the vision transformer learn; none: where it is new")
    ] = None,
    epochs: int,
    lr: float,
    weight_decay: float,
    batch_size: int | None,
    device: str,
    time_limit: float | None,
    random_state: int,
) -> Any:
    """Let a decoder see: a tower and a projector before it, fine tokens added to its early layers.

    Args:
        model: a causal language model of transformers, with its tokenizer beside it. It is not
            changed.
        data: a loaded task of questions about pictures, or what that loads.

    Returns:
        a fitted `DeepStackVQA`.

    Raises:
        ModelError: it is no such model, or has fewer blocks than the stacks need.
    """
    if not hasattr(model, "get_input_embeddings"):
        raise ModelError(f"a {type(model).__name__} is no language model of transformers")
    if data is None:
        raise DataError("this method trains: give it a loaded task of questions about pictures")
    if epochs < 1:
        raise KnobError("a projector cannot be left untrained: epochs must be at least 1")
    parts: dict[str, Any] = {
        "model": model, "vision": vision, "side": side, "tune_model": tune_model,
        "tune_vision": tune_vision, "max_epochs": epochs, "lr": lr, "weight_decay": weight_decay,
        "batch_size": batch_size or "auto", "device": device, "time_limit": time_limit,
        "random_state": random_state,
    }  # fmt: skip
    made = DeepStackVQA(
        variant=variant, sampling=sampling, grid=grid, max_crops=max_crops, start=start,
        interval=interval, split=split, taps=taps, merge=merge, **parts,
    )  # fmt: skip
    return data.fit(made) if isinstance(data, Task) else made.fit(data)
