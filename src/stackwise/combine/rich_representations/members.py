"""Train the members: one learner, n seeds, the same rows.

Each member draws its first weights and the order of its rows from its own seed. Nothing couples
them, so that they are trained in turn, on a pool, on a cluster (`FitsApart`), or as one network
(`together`). A plan is a fit without its training: the network and the phases that a learner made.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from torch import nn

from stackwise.catalog import cards, preset_values
from stackwise.errors import KnobError, ModelError, nearest
from stackwise.learning.apart import FitsApart
from stackwise.learning.labelled_network import LabelledNetwork
from stackwise.training.phases import Phase, Trained
from stackwise.training.session import current_session

DEFAULT = {"images": "residual-cnn", "table": "mlp"}
"""The learner whose seeds are joined where none is named, by the kind of samples."""


@dataclass
class Rows:
    """What every member learns from.

    Attributes:
        samples, target: as `fit` takes them. weight: (n,), or None where all count the same.
        held: (samples, target) that stop a member, or None. told: further arguments of `fit`.
    """

    samples: Any
    target: np.ndarray
    weight: np.ndarray | None = None
    held: tuple[Any, np.ndarray] | None = None
    told: dict[str, Any] = field(default_factory=dict)

    def fit(self, learner: Any) -> Any:
        """Fit a learner on these rows."""
        return learner.fit(
            self.samples, self.target, self.weight, validation=self.held, **self.told
        )


def base_learner(base: Any, kind: str, preset: str = "standard") -> Any:
    """The learner whose seeds become members, not fitted.

    Args:
        base: the name of a classifier of the catalog, a learner of this library, or None.
        kind: of the samples, "images" or "table".
        preset: of a learner that is named: quick, standard or best.

    Raises:
        KnobError: it is no such thing.
    """
    name = DEFAULT[kind] if base is None else base
    if isinstance(name, str):
        known = cards()
        if name not in known or not known[name].serves(kind, "classification"):
            serving = [slug for slug, of in known.items() if of.serves(kind, "classification")]
            raise KnobError(
                f"base is {name!r}, which is no classifier of {kind}.{nearest(name, serving)}"
            )
        entry = known[name].entry("learner", "classification", task=kind)
        made = entry.load()(**preset_values(known[name], preset, entry))
    else:
        made = clone(name, safe=False)
    if not isinstance(made, LabelledNetwork) or not made._by_class:
        raise KnobError(
            f"base is a {type(made).__name__}; members are classifiers of this library that train "
            "a network, such as residual-cnn or mlp"
        )
    return made


def with_knobs(learner: Any, knobs: dict[str, Any]) -> Any:
    """The learner with those of the knobs that it has.

    Raises:
        KnobError: it has no such knob.
    """
    known = learner.get_params(deep=False)
    for name in knobs:
        if name not in known:
            raise KnobError(f"{type(learner).__name__} has no knob {name!r}.{nearest(name, known)}")
    return learner.set_params(**knobs)


@dataclass(kw_only=True)
class MemberFits(FitsApart):
    """The fits of members, each on the same rows."""

    learners: list[Any]
    rows: Rows
    kind: ClassVar[str] = "member"

    def one(self, place: int) -> Any:
        """A fitted member."""
        member = self.rows.fit(self.learners[place])
        member._watched = None  # a user's metric, which no prediction asks for
        return member


def train_apart(fits: FitsApart, time_limit: float | None = None) -> list[Any]:
    """All members, trained apart; what each epoch scored is logged at the end."""
    found: dict[int, Any] = {}
    first = current_session().fits
    with contextlib.closing(fits.results(time_limit)) as results:
        for place, member in results:
            found[place] = member
    members = [found[place] for place in range(len(fits.names))]
    for place, member in enumerate(members, first):
        member.history_ = [line | {"fit": place} for line in member.history_]
        for line in member.history_:
            current_session().log(line)
    return members


def planned(learner: Any, rows: Rows) -> tuple[nn.Module, list[Phase]]:
    """Everything of a fit but its training: the network as it begins, and the phases.

    The learner then answers with the network as it began, until it is given a trained one.
    """
    plan: list[tuple[nn.Module, list[Phase]]] = []

    def kept(network: nn.Module, phases: list[Phase]) -> Trained:
        plan.append((network, phases))
        return Trained(network, [], 0, None, "epochs", 0, 0.0)

    learner.train = kept  # the step of every fit that takes long
    try:
        rows.fit(learner)
    finally:
        del learner.train
    learner._watched = None
    if len(plan) != 1 or len(plan[0][1]) != 1:
        raise ModelError(
            f"a {type(learner).__name__} trains in several phases; its members can only be trained "
            "apart, by mode=cat and together=false"
        )
    learner.history_, learner.best_epoch_ = [], 0
    return plan[0]


def seeds_of(seed: int, count: int, given: Sequence[int] | None) -> list[int]:
    """A seed for each member.

    Raises:
        KnobError: there are others than members, or two are equal.
    """
    if given is None:
        return [int(s) for s in np.random.SeedSequence(seed).generate_state(count) >> 1]
    seeds = [int(one) for one in given]
    if len(seeds) != count:
        raise KnobError(f"seeds has {len(seeds)} numbers and n is {count}; they must agree")
    again = [one for place, one in enumerate(seeds) if one in seeds[:place]]
    if again:
        raise KnobError(
            f"seeds has {again[0]} twice: these members would be bit-identical and their features "
            "duplicated"
        )
    return seeds
