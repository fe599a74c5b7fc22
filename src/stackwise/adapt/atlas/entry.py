"""The transform: a base, its donors and data in, one plain model of the same kind out."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import Tensor, nn

from stackwise.adapt.atlas.arithmetic import Unmapped, merge_saved
from stackwise.adapt.atlas.budget import Selection
from stackwise.adapt.atlas.composition import Scaling
from stackwise.adapt.atlas.figures import heat_map
from stackwise.adapt.atlas.learning import FOUND, learn
from stackwise.adapt.atlas.objectives import Objective
from stackwise.adapt.atlas.wanted import Wanted
from stackwise.adapt.delta.hashes import module_of
from stackwise.catalog import Knob, ModelRef, transform
from stackwise.errors import ModelError
from stackwise.findings import Findings
from stackwise.processes import is_first
from stackwise.training.knobs import floored, placed, seeded, tuned
from stackwise.training.session import current_session


def merged_on_disk(folder: Path, out: Path, *, donors: Any, alpha: Any, **others: Any) -> bool:
    """Task arithmetic from files to files; no model is opened.

    Returns:
        False, and nothing was done, where coefficients are learned or the files do not do.
    """
    wanted = Wanted(donors=donors, alpha=alpha, **others)
    wanted.check(data=None)
    if not isinstance(alpha, float):
        return False
    try:
        merge_saved(folder, out, donors=donors, alpha=alpha, exclude=wanted.exclude)
    except Unmapped:
        return False
    return True


@transform(
    "atlas",
    title="One model of several fine-tuned ones, mixed block by block",
    paper="2407.02880",
    cost="a pass of the model and of its donors' weights a step; nothing afterwards",
    budget="epochs",
    floor={"min_steps": 100},
    presets={"quick": {"epochs": 1}, "standard": {}, "best": {"epochs": 30}},
    verified="tests/adapt/test_atlas_parity.py",
    shared=(floored, tuned, placed, seeded),
    on_disk=merged_on_disk,
)
def atlas(
    model: Any,
    data: Any = None,
    *,
    donors: Annotated[
        list[ModelRef] | dict[str, ModelRef],
        Knob("models that were fine-tuned from this one: runs, folders, adapters, weights"),
    ],
    scaling: Annotated[
        Scaling, Knob("a coefficient a donor and block, those of matrices alone, or one a donor")
    ] = "block",
    parts: Annotated[int, Knob("random groups of each block, a coefficient each", ge=1)] = 1,
    objective: Annotated[
        Objective, Knob("what is learned: the last three need no labels")
    ] = "supervised",
    control: Annotated[
        list[str] | None, Knob("further data: to be kept where the data are forgotten, else added")
    ] = None,
    control_kept: Annotated[
        float, Knob("share of the control's accuracy that is kept, of objective negate", gt=0, le=1)
    ] = 0.95,
    l1: Annotated[float, Knob("weight of the L1 norm of coefficients (paper: 0.5)", ge=0)] = 0.0,
    l2: Annotated[float, Knob("weight of their L2 norm (paper: 0.5)", ge=0)] = 0.0,
    budget: Annotated[int | None, Knob("donors a block may take; none: all", ge=1)] = None,
    select: Annotated[Selection, Knob("how they are chosen within a budget")] = "grad-block",
    donor_data: Annotated[
        list[str] | None, Knob("data of each donor, in their order, for select features")
    ] = None,
    linearised: Annotated[bool, Knob("learn along the first-order expansion of the model")] = False,
    sharpen: Annotated[float, Knob("exponent of ufm's pseudo-labels", gt=0)] = 0.5,
    alpha: Annotated[
        float | Literal["search"] | None,
        Knob("task arithmetic instead: this one number for all, or the best of 21"),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        Knob("patterns of weights that stay as they are; none: the head, []: nothing"),
    ] = None,
    keep: Annotated[
        Literal["best", "last"],
        Knob("coefficients of the best validation score, or the last, which needs no such data"),
    ] = "best",
    lr: Annotated[float, Knob("learning rate of the coefficients", gt=0, log=True)] = 0.1,
    weight_decay: Annotated[float, Knob("decoupled weight decay of them", ge=0)] = 0.1,
    schedule: Annotated[
        Literal["cosine", "constant", "linear"], Knob("how the learning rate falls")
    ] = "cosine",
    min_steps: int,
    head_epochs: Annotated[
        int, Knob("then passes in which the head is learned, the mix frozen; 0: it stays", ge=0)
    ] = 0,
    head_lr: Annotated[float, Knob("learning rate of the head", gt=0, log=True)] = 1e-3,
    loss: Callable[..., Tensor] | None = None,
    **training: Any,
) -> Any:
    """Learn how much of each fine-tuned model to take in each block, and give the mix as one model.

    A few labelled samples are enough, for only the coefficients are learned, beginning with the
    base; where nothing is better than the base on held-out data, the base comes out.

    Args:
        model: the base of all donors: a fitted learner, a model of transformers or any module. It
            is not changed.
        data: what `stackwise.learning.trainable` takes. None with `alpha`.
        control, donor_data: sources, read as `data` was, or in Python what `data` may be.
        loss: for a module whose batches give no `.loss`.
        training: `epochs`, `batch_size`, `time_limit`, `device`, `random_state`.

    Returns:
        a new object of the same kind, its weights theta_0 + sum Lambda_i tau_i. `coefficients_of`
        gives the table; in a run it is `coefficients.csv`, with a picture in `figures`.

    Raises:
        KnobError: knobs that do not go together. ModelError: a donor does not fit the base.
        DataError: the objective cannot be had from these data.
    """
    if not isinstance(getattr(model, "network_", model), nn.Module):
        raise ModelError(f"a {type(model).__name__} is no model whose weights could be mixed")
    wanted = Wanted(
        donors=donors, scaling=scaling, parts=parts, objective=objective, control=control,
        control_kept=control_kept, l1=l1, l2=l2, budget=budget, select=select,
        donor_data=donor_data, linearised=linearised, sharpen=sharpen, alpha=alpha,
        exclude=exclude, keep=keep, lr=lr, weight_decay=weight_decay, schedule=schedule,
        min_steps=min_steps, head_epochs=head_epochs, head_lr=head_lr, loss=loss, **training,
    )  # fmt: skip
    result, found = learn(model, data, wanted)
    folder = current_session().folder
    if folder is not None and is_first():
        figures = {"coefficients": heat_map(found.tables["coefficients"])}
        Findings(found.tables, figures, found.summary).save(folder)
    module_of(result).__dict__[FOUND] = found
    return result


def coefficients_of(model: Any) -> Findings:
    """What `atlas` learned of the model that it gave: the table `coefficients` (a row a block, a
    column a donor), and in `summary` the scores before and after, and what was left out.

    Raises:
        ModelError: the model is of another making, or was saved and opened since.
    """
    found = module_of(model).__dict__.get(FOUND)
    if not isinstance(found, Findings):
        raise ModelError(
            f"this {type(model).__name__} knows of no coefficients: they are with what atlas "
            "returned, and in its run's coefficients.csv"
        )
    return found
