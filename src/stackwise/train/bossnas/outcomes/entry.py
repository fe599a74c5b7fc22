"""The transform, which trains the best network, and the probe, which asks how good ratings are."""

from typing import Annotated, Any

from stackwise.catalog import Knob, probe, transform
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.findings import Findings
from stackwise.protocols import Task
from stackwise.train.bossnas.learners.searching import CARD
from stackwise.train.bossnas.outcomes.retraining import (
    joined_with,
    read_architecture,
    retrained,
    space_of_search,
)
from stackwise.train.bossnas.outcomes.truth import (
    Truths,
    agreement,
    different,
    opponents,
    picture_of,
    truth_of,
)
from stackwise.training.knobs import floored, placed, seeded

TASKS = ("images", "table", "series")


@transform(
    "bossnas", **CARD, tasks=TASKS, takes=("learner",), having="a search of bossnas behind them",
    presets={"quick": {"epochs": 4, "min_steps": 0}, "standard": {}, "best": {"epochs": 200}},
    budget="epochs", floor={"min_steps": 300}, shared=(floored, placed, seeded),
)  # fmt: skip
def bossnas(
    model: Any,
    data: Any = None,
    *,
    architecture: Annotated[
        str | None, Knob("operations by name or number, blocks parted by |; none is the best rated")
    ] = None,
    place: Annotated[int, Knob("take the best, the second best, ...", ge=1)] = 1,
    max_params: Annotated[float | None, Knob("parameters at most", gt=0)] = None,
    max_macs: Annotated[float | None, Knob("multiply-adds of a sample at most", gt=0)] = None,
    epochs: Annotated[int, Knob("passes over the data", ge=1)] = 40,
    lr: Annotated[float, Knob("learning rate", gt=0, log=True)] = 2e-3,
    weight_decay: Annotated[float, Knob("decoupled weight decay", ge=0)] = 5e-4,
    batch_size: Annotated[int | None, Knob("rows a step; none is the search's", ge=1)] = None,
    time_limit: Annotated[float | None, Knob("seconds of training", gt=0)] = None,
    min_steps: int,
    device: str,
    random_state: int,
) -> Any:
    """Train the best architecture of a search from scratch, with labels.

    Args:
        model: a fitted search. Not changed. data: a loaded task, or (X, y).

    Returns:
        a learner of the same kind whose network is the chosen one, trained.

    Raises:
        KnobError: no such architecture. ModelError: the model is no search. DataError: no data.
    """
    space = space_of_search(model)
    if data is None:
        raise DataError("the best network is trained with labels: give data")
    if architecture is not None and (place > 1 or max_params or max_macs):
        raise KnobError("give an architecture, or place and budgets, not both")
    if architecture is None:
        listed = model.top(place, max_params=max_params, max_macs=max_macs)
        if len(listed) < place:
            raise KnobError(f"place={place}, and there are {len(listed)} rated architectures")
        chosen = listed[-1]
    else:
        chosen = read_architecture(space, architecture)
    joined = joined_with(model, data, batch_size, random_state)
    network = retrained(
        model, joined, chosen, epochs=epochs, lr=lr, weight_decay=weight_decay,
        min_steps=min_steps, seed=random_state, device=device, time_limit=time_limit,
    )  # fmt: skip
    made = model.with_network(network)
    made.architecture_ = chosen
    made.notes_ = [*model.notes_, f"trained from scratch: {space.words(chosen)}"]
    return made


@probe("bossnas", **CARD, tasks=TASKS, takes=("learner",), having="a search of bossnas behind them",
       presets={"quick": {"networks": 4, "truth_seeds": 1, "epochs": 2}, "standard": {},
                "best": {"networks": 60, "truth_seeds": 3, "epochs": 60}},
       shared=(placed, seeded))  # fmt: skip
def bossnas_ranking(
    model: Any,
    data: Any = None,
    *,
    networks: Annotated[int, Knob("random architectures that are trained alone", ge=3)] = 24,
    truth_seeds: Annotated[int, Knob("times that each is trained", ge=1)] = 2,
    epochs: Annotated[int, Knob("passes over the data of each", ge=1)] = 20,
    lr: Annotated[float, Knob("learning rate", gt=0, log=True)] = 2e-3,
    weight_decay: Annotated[float, Knob("decoupled weight decay", ge=0)] = 5e-4,
    workers: Annotated[int, Knob("processes in which networks are trained", ge=1)] = 1,
    on: Annotated[str | None, Knob("train networks on a Ray cluster: ray, or an address")] = None,
    device: str,
    random_state: int,
) -> Findings:
    """How well the ratings of a search rank networks that are trained alone: Kendall's, Spearman's
    and Pearson's correlation with their validation scores, beside the number of parameters and of
    multiply-adds, and beside what a second training of the same networks reaches.

    Args:
        model: a fitted search. Not changed. data: a loaded task.
    """
    space = space_of_search(model)
    if not isinstance(data, Task):
        raise DataError("networks are scored by a task's validation part: give a loaded task")
    if not hasattr(model, "network_"):
        raise ModelError("this search saw no labels: fit it with y")
    chosen = different(model.kept_ratings_, networks, random_state)
    if len(chosen) < 3:
        raise KnobError(f"a ranking needs 3 architectures or more; {len(chosen)} have ratings")
    wanted = [(one, random_state + seed) for one in chosen for seed in range(truth_seeds)]
    truths = Truths(
        names=[f"network {i + 1}" for i in range(len(wanted))], model=model, data=data,
        wanted=wanted, part="validation", workers=workers, on=on,
        recipe={"epochs": epochs, "lr": lr, "weight_decay": weight_decay, "device": device},
    )  # fmt: skip
    truth = truth_of(truths, truth_seeds)
    ratings = [model.rate(one) for one in chosen]
    rankings = {"ratings": ratings, **opponents(space, chosen, model.n_outputs_)}
    table = agreement(truth, rankings)
    return Findings(
        tables={"agreement": table, "networks": _networks(space, chosen, rankings, truth)},
        figures={"ratings": picture_of(ratings, truth, data.metric.name)},
        summary={f"spearman of {name}": float(value) for name, value in table["spearman"].items()},
    )


def _networks(space: Any, chosen: Any, rankings: Any, truth: Any) -> Any:
    import pandas as pd

    words = pd.Index([space.words(one) for one in chosen], name="architecture")
    frame = pd.DataFrame({"rating": rankings["ratings"]}, index=words)
    for name in ("parameters", "multiply-adds"):
        frame[name] = [-value for value in rankings[name]]
    for seed in range(truth.shape[1]):
        frame[f"score, seed {seed}"] = truth[:, seed]
    return frame
