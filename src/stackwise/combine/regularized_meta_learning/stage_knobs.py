"""The knobs of the base models and of the four stages, which plain matrices have too."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from stackwise.knobs import Knob


def base_knobs(
    estimators: Annotated[
        Sequence[Any] | None,
        Knob("base models: (name, estimator) pairs or names; none is a short list of learners"),
    ] = None,
    final_estimator: Annotated[
        Any, Knob("a meta-model of your own in place of `meta`, as scikit-learn calls it")
    ] = None,
    *,
    cv: Annotated[Any, Knob("folds of the base models: a number, a splitter, or prefit")] = 5,
    stack_method: Annotated[
        Literal["auto", "predict_proba", "decision_function", "predict"],
        Knob("what a classifier is asked; auto is the first that it has"),
    ] = "auto",
    passthrough: Annotated[
        bool, Knob("give the meta-models the columns of X too, which must be numbers")
    ] = False,
    refit: Annotated[
        bool, Knob("fit kept models on all rows; false averages the models of the folds")
    ] = True,
    n_jobs: Annotated[int | None, Knob("base models that are fitted side by side")] = None,
    threads: Annotated[int | None, Knob("threads of the CPU", ge=1)] = None,
    random_state: Annotated[int | None, Knob("the seed", ge=0)] = 0,
    verbose: Annotated[int, Knob("accepted as scikit-learn's; nothing is printed")] = 0,
) -> None:
    """Which base models there are, and how they are fitted."""


def stage_knobs(
    *,
    projection: Annotated[bool, Knob("stage 1: drop near-copies of better models")] = True,
    tau_corr: Annotated[
        float, Knob("correlation from which two models may be copies", ge=-1, le=1)
    ] = 0.95,
    tau_mse: Annotated[
        float, Knob("mean squared difference up to which they are", ge=0, search=(0.0, 0.05))
    ] = 0.02,
    tau_var: Annotated[float, Knob("variance below which a model says nothing", ge=0)] = 1e-4,
    mse_units: Annotated[
        Literal["target", "absolute"],
        Knob("unit of tau_mse, tau_var and of the penalties: the target's spread, or 1"),
    ] = "target",
    statistics: Annotated[bool, Knob("stage 2: mean, deviation, median and range")] = True,
    interactions: Annotated[bool, Knob("stage 2: mean and range times the deviation")] = True,
    meta: Annotated[
        Sequence[Any],
        Knob(
            "stage 3: ridge, lasso, elasticnet or estimators; empty blends the models as they are"
        ),
    ] = ("ridge", "lasso", "elasticnet"),
    meta_cv: Annotated[Any, Knob("outer folds, which judge the meta-models; or a splitter")] = 5,
    inner_cv: Annotated[int, Knob("inner folds, which choose their penalties", ge=2)] = 3,
    honest: Annotated[
        bool, Knob("repeat stage 1 inside each outer fold, so that the reported error is fair")
    ] = True,
    one_se: Annotated[
        bool, Knob("the strongest penalty within one standard error, not the best")
    ] = False,
    blend: Annotated[bool, Knob("stage 4: false takes the best meta-model alone")] = True,
    sharpness: Annotated[
        float, Knob("power of the inverse error in the weights; 0 is the mean", ge=0)
    ] = 1.0,
    drop_worse: Annotated[
        float | None, Knob("leave out a meta-model whose error is this part above the best", ge=0)
    ] = 0.02,
    tol: Annotated[
        float, Knob("duality gap of coordinate descent, a part of the target's energy", gt=0)
    ] = 1e-5,
    max_epochs: Annotated[int, Knob("rounds of the meta-models' solvers at most", ge=1)] = 10_000,
) -> None:
    """The four stages. Only the signature counts; see `stackwise.catalog.learner`."""


def class_stage_knobs(
    *,
    space: Annotated[
        Literal["logit", "probability"], Knob("what the meta-models see of a probability")
    ] = "logit",
    tied: Annotated[
        bool | Literal["auto"],
        Knob("one weight a model for all classes; auto: above 5 classes, or with few rows"),
    ] = "auto",
) -> None:
    """What comes on top for classes."""
