"""The transform: any teacher in, a chain of small Mambas out."""

from typing import Annotated, Any, Literal

from stackwise.catalog import Knob, transform
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.protocols import Task
from stackwise.shrink.mamba_pkd.learner import CARD, MambaClassifier
from stackwise.training.knobs import floored, placed, seeded, taught, tuned


@transform(
    "mamba-pkd",
    tasks=("images",),
    takes=("learner",),
    gives="learner",
    budget="epochs",
    floor={"min_steps": 300},
    shared=(taught, floored, tuned, placed, seeded),
    **CARD,
)
def mamba_pkd(
    model: Any,
    data: Any = None,
    *,
    students: Annotated[int, Knob("networks of the chain", ge=1, le=64)] = 7,
    mode: Annotated[
        Literal["residual", "regress", "boosted", "independent", "classic"],
        Knob("what a student learns; classic is one student that costs as much as the chain"),
    ] = "residual",
    distill_alpha: float,
    temperature: float,
    first: Annotated[float, Knob("cost of the first student over the teacher's", gt=0)] = 0.01,
    total: Annotated[float, Knob("cost of the chain over the teacher's", gt=0)] = 0.63,
    shrinkage: Annotated[float, Knob("what each student's answer counts", gt=0, le=1)] = 1.0,
    reuse: Annotated[bool, Knob("a student reads the features of the one before")] = False,
    patch: Annotated[
        int | None, Knob("pixels of a patch's side; none: each row is a token", ge=1)
    ] = None,
    d_state: Annotated[int, Knob("numbers of the state of a channel", ge=1, le=256)] = 16,
    bidirectional: Annotated[bool, Knob("read the tokens from both ends")] = False,
    augment: Annotated[
        Literal["none", "shift", "photo", "strong"], Knob("how training pictures are varied")
    ] = "none",
    min_steps: int,
    threads: Annotated[int | None, Knob("threads of the CPU", ge=1)] = None,
    epochs: int,
    lr: float,
    weight_decay: float,
    batch_size: int | None,
    device: str,
    time_limit: float | None,
    random_state: int,
) -> Any:
    """Split any classifier of pictures into a chain of small Mambas, learned one after another.

    Args:
        model: the teacher: a fitted learner, an estimator of anyone, or a module that gives logits
            or probabilities. It is not changed.
        data: a loaded task of pictures, or (X, y).
        epochs: passes over the data for each student; lr, weight_decay, min_steps: of each.

    Returns:
        a fitted `MambaClassifier`: with several students every prefix is a model.

    Raises:
        ModelError: the teacher is none. DataError: it knows other classes than the data.
    """
    if isinstance(model, str) or not (callable(model) or hasattr(model, "predict")):
        raise ModelError(f"a {type(model).__name__} cannot teach: give an estimator or a module")
    if epochs < 1:
        raise KnobError("a chain cannot answer untrained: epochs must be at least 1")
    training: dict[str, Any] = {
        "min_steps": min_steps, "max_epochs": epochs, "lr": lr, "weight_decay": weight_decay,
        "batch_size": batch_size or "auto", "device": device, "time_limit": time_limit,
        "threads": threads, "random_state": random_state, "augment": augment,
        "distill_from": model, "distill_alpha": distill_alpha, "temperature": temperature,
    }  # fmt: skip
    made = MambaClassifier(
        students=students, mode=mode, first=first, total=total, shrinkage=shrinkage, reuse=reuse,
        patch=patch, d_state=d_state, bidirectional=bidirectional, **training,
    )  # fmt: skip
    if isinstance(data, Task):
        data.fit(made)
    elif isinstance(data, tuple) and len(data) == 2:
        made.fit(*data)
    else:
        raise DataError("this method trains: give it a loaded task of pictures, or (X, y)")
    return made
