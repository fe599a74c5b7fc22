"""The knobs that learners, transforms and probes share: the catalog joins them to signatures."""

from typing import Annotated, Literal

from stackwise.knobs import Knob, ModelRef

DistillAlpha = Annotated[
    float, Knob("share of the targets in the loss; the rest is the teacher's", ge=0, le=1)
]
Temperature = Annotated[
    float, Knob("of distillation: above 1 the teacher's wrong classes count more", gt=0)
]


def training_knobs(
    *,
    lr: Annotated[
        float, Knob("learning rate of AdamW", gt=0, log=True, search=(1e-4, 5e-3))
    ] = 1e-3,
    weight_decay: Annotated[
        float, Knob("decoupled weight decay", ge=0, log=True, search=(1e-4, 1e-1))
    ] = 0.0,
    batch_size: Annotated[
        int | Literal["auto"], Knob("rows a step; auto grows with the data", ge=1)
    ] = "auto",
    max_epochs: Annotated[int, Knob("most passes over the training rows", ge=1)] = 100,
    patience: Annotated[
        int | None, Knob("epochs without a better validation score before stopping", ge=1)
    ] = 16,
    grad_clip: Annotated[float | None, Knob("largest norm of the gradient", gt=0)] = 1.0,
    schedule: Annotated[
        Literal["constant", "cosine", "linear"], Knob("how the learning rate falls")
    ] = "constant",
    warmup: Annotated[
        float, Knob("share of the steps over which the learning rate rises", ge=0, lt=1)
    ] = 0.0,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Knob("type of the matrix products; auto is bfloat16 on CUDA, else float32"),
    ] = "auto",
    device: Annotated[str, Knob("auto, cpu, cuda or mps")] = "auto",
    threads: Annotated[int | None, Knob("threads of the CPU", ge=1)] = None,
    time_limit: Annotated[float | None, Knob("seconds of training", gt=0)] = None,
    random_state: Annotated[int | None, Knob("the seed", ge=0)] = 0,
    verbose: Annotated[bool, Knob("print a line an epoch")] = False,
) -> None:
    """Only the signature counts; see `stackwise.catalog.learner`."""


def distillation_knobs(
    *,
    distill_from: Annotated[
        ModelRef | str | None, Knob("a run, estimator or module that is learned from, too")
    ] = None,
    distill_alpha: DistillAlpha = 0.5,
) -> None:
    """How a learner is taught by another model; see `stackwise.training.distillation`."""


def temperature_knobs(*, temperature: Temperature = 2.0) -> None:
    """What distillation asks of classifiers besides."""


def taught(*, distill_alpha: DistillAlpha = 0.5, temperature: Temperature = 2.0) -> None:
    """How what a transform makes is taught by the model that it is given."""


def floored(
    *,
    min_steps: Annotated[
        int, Knob("steps that are taken at least: few rows take more passes than epochs", ge=0)
    ] = 0,
) -> None:
    """What a transform trains at least."""


def seeded(*, random_state: Annotated[int, Knob("the seed", ge=0)] = 0) -> None:
    """The seed of a transform or a probe."""


def placed(*, device: Annotated[str, Knob("auto, cpu, cuda or mps")] = "auto") -> None:
    """Where a transform computes."""


def tuned(
    *,
    epochs: Annotated[int, Knob("passes over the data; 0 trains nothing", ge=0)] = 10,
    lr: Annotated[float, Knob("learning rate", gt=0, log=True)] = 1e-3,
    weight_decay: Annotated[float, Knob("decoupled weight decay", ge=0)] = 0.0,
    batch_size: Annotated[
        int | None, Knob("rows a step where the model does not say; none is the data's", ge=1)
    ] = None,
    time_limit: Annotated[float | None, Knob("seconds of training", gt=0)] = None,
) -> None:
    """How a transform goes on training a model."""
