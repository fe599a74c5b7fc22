"""The knobs that all of BossNAS's learners share, and the settings that they make."""

from typing import Annotated, Any, Literal

from stackwise.catalog import Knob
from stackwise.errors import KnobError
from stackwise.train.bossnas.search.sampling import Sampling, check_fair
from stackwise.train.bossnas.search.settings import Settings, entered
from stackwise.train.bossnas.search.views import Views
from stackwise.train.bossnas.spaces.own import SearchSpace
from stackwise.train.bossnas.spaces.space import Space

PATHS = 4


def search_knobs(
    *,
    objective: Annotated[
        Literal["ensemble", "plain", "supervised"],
        Knob("what paths learn: their common average, each its own teacher, or the labels"),
    ] = "ensemble",
    order: Annotated[
        Literal["greedy", "apart"],
        Knob("blocks one behind the best of those before, or each by itself"),
    ] = "greedy",
    sampling: Annotated[
        Literal["random", "fair"] | None,
        Knob("paths of a step; fair uses each operation once a layer; none is the space's"),
    ] = None,
    paths: Annotated[
        int | None, Knob("paths of a step; none is 4, of fair as many as operations", ge=1, le=64)
    ] = None,
    own_views: Annotated[
        bool | None, Knob("a pair of views for each path; none is the space's")
    ] = None,
    ema: Annotated[float, Knob("how slow the teacher follows at first", ge=0, le=1)] = 0.99,
    projection: Annotated[int, Knob("numbers of a projection", ge=1, le=4096, log=True)] = 64,
    hidden: Annotated[
        int, Knob("units of projections and predictor", ge=1, le=16384, log=True)
    ] = 256,
    stop_gradient: Annotated[bool, Knob("later blocks teach earlier ones nothing")] = True,
    rate_sample: Annotated[
        int | None, Knob("paths of a block that are rated; none is all", ge=1)
    ] = None,
    blocks: Annotated[
        int | None, Knob("parts that are searched one by one; none is the space's", ge=1, le=64)
    ] = None,
    layers: Annotated[
        int | None, Knob("layers of a block; none is the space's", ge=1, le=64)
    ] = None,
    width: Annotated[
        int | None, Knob("channels or numbers that widths follow; none is the space's", ge=1,
                         le=4096, log=True)
    ] = None,
    workers: Annotated[int, Knob("processes in which blocks are searched side by side", ge=1)] = 1,
    on: Annotated[
        str | None, Knob("search blocks on a Ray cluster: ray, or ray://host:port")
    ] = None,
    views: Views | None = None,
    search_space: SearchSpace | None = None,
) -> None:  # fmt: skip
    """How blocks are searched. In Python alone: `views`, a function (inputs, generator) -> inputs
    that varies each sample, and `search_space`, a space of your own.
    """


def settings_of(learner: Any, space: Space) -> Settings:
    """The settings of a learner, with what its space usually has.

    Raises:
        KnobError: knobs that do not go together.
    """
    usual: Sampling = "random" if space.kind in ("hytra", "own") else "fair"
    sampling: Sampling = learner.sampling or usual
    paths = learner.paths or PATHS
    if sampling == "fair":
        counts = {
            check_fair(space, block, entered(space, block, learner.order))
            for block in range(len(space.depths))
        }
        if len(counts) > 1 or learner.paths not in (None, *counts):
            raise KnobError(
                f"sampling=fair trains as many paths as a layer has operations, {max(counts)}, not "
                f"paths={learner.paths}; leave paths out, or take sampling=random"
            )
        paths = counts.pop()
    own_views = learner.own_views
    made = Settings(
        objective=learner.objective, order=learner.order, sampling=sampling, paths=paths,
        own_views=space.kind != "size" if own_views is None else own_views, ema=learner.ema,
        hidden=learner.hidden, size=learner.projection, stop_gradient=learner.stop_gradient,
        rate_sample=learner.rate_sample, seed=learner.seed_,
    )  # fmt: skip
    made.check(space)
    return made
