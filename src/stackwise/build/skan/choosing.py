"""What the learners of S-KAN share, on tables and on pictures: the choice, and its three phases.

    full         all families learn together
    selective    every gate commits to one family
    pruned       the others are removed, by the choice that wins on validation rows, and what
                 stays learns on

Source: arXiv 2408.08338. Differs from the paper: its selection rule was not readable; what stays is
by default the choice that does best on validation rows in a short race (`selection`).
"""

import itertools
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.build.skan.gates import POOL
from stackwise.build.skan.rule import GateRule
from stackwise.build.skan.selectable import SelectableNetwork
from stackwise.build.skan.selection import Score, choices, prune, race, scores
from stackwise.catalog import Knob
from stackwise.errors import KnobError
from stackwise.learning.labelled_network import LabelledNetwork
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.outputs import as_tensors, batch_loss
from stackwise.progress import OnEvent, part_of
from stackwise.training.batches import ArrayBatches
from stackwise.training.loop import train
from stackwise.training.phases import Phase
from stackwise.training.rules import Backprop
from stackwise.training.session import current_session, session

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDS = (0.3, 0.5)
"""Shares of a time limit at which the first two phases end."""
RACE = 0.7
"""Of what is then left, the share of the race; the last phase has the rest."""
WAYS: tuple[Score, ...] = ("gate", "contribution", "taylor")


def selection_knobs(
    *,
    pool: Annotated[Sequence[str], Knob("families to choose among")] = POOL,
    keep: Annotated[
        int | Literal["all", "validation"],
        Knob("families that a gate keeps; validation lets one race against all", ge=1),
    ] = "validation",
    select_by: Annotated[
        Literal["validation", "gate", "contribution", "taylor", "ablation", "random"],
        Knob("what decides which stay; validation lets the others' choices race"),
    ] = "validation",
    select: Annotated[
        Literal["straight", "gumbel", "anneal"], Knob("how gates commit in the second phase")
    ] = "gumbel",
    per: Annotated[
        Literal["node", "edge", "output", "layer"], Knob("what has a gate of its own")
    ] = "node",
    gate: Annotated[
        Literal["softmax", "raw"], Knob("weights that sum to one, or free ones")
    ] = "softmax",
    phases: Annotated[Sequence[float], Knob("shares of the epochs: full, selective, pruned")] = (
        0.4,
        0.3,
        0.3,
    ),
    pruned_lr: Annotated[
        float, Knob("learning rate of the third phase, as a share of lr", gt=0, log=True)
    ] = 1.0,
    race: Annotated[
        float, Knob("share of the third phase's epochs that a candidate gets", gt=0, le=1)
    ] = 1.0,
    entropy: Annotated[float, Knob("penalty on the entropy of the gates", ge=0)] = 0.0,
    grid: Annotated[int, Knob("intervals of splines and ReLU functions", ge=1)] = 5,
    degree: Annotated[int, Knob("degree of the polynomials", ge=1)] = 4,
    wavelet: Annotated[
        Literal["mexican-hat", "morlet", "dog", "meyer"], Knob("the mother wavelet")
    ] = "mexican-hat",
) -> None:
    """The families, how they are chosen, and what has a choice of its own."""


class ChoosesFamilies(LabelledNetwork):
    """A learner whose network is a `SelectableNetwork`, of the class `kind`; its knobs include
    those of `selection_knobs`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (selection_knobs, *LabelledNetwork.shared_knobs)
    kind: ClassVar[type[SelectableNetwork]]
    scored: ClassVar[int] = 2048
    """Most rows over which scores and means are taken."""

    def check_choice(self) -> None:
        """Refuse knobs that do not fit each other.

        Raises:
            KnobError: more families stay than there are, or phases are no shares.
        """
        if isinstance(self.keep, int) and self.keep > len(self.pool):
            raise KnobError(f"keep ({self.keep}) exceeds the pool ({len(self.pool)})")
        shares = tuple(self.phases)
        if len(shares) != 3 or min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise KnobError(f"phases must be three shares above 0 that sum to 1, got {shares}")

    def first_inputs(self, X: Any) -> torch.Tensor:
        """What the first layer of the fitted network sees of a user's samples."""
        network = cast(SelectableNetwork, self.network_)
        device = next(network.parameters()).device
        given = as_tensors(self._inputs(self._asked(X)))
        return network.first({name: rows[:].to(device) for name, rows in given.items()})

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Coefficients and base weights decay, and so do gates, lest one drives the other."""
        return name.endswith("gates") or "coefficients" in name or name.endswith("base.weight")

    def build_phases(
        self, batches: ArrayBatches, held: LabelledRows | None, watched: dict[str, Any]
    ) -> list[Phase]:
        """Full training, selective training, and training of what pruning leaves."""
        patience = self.patience if held is not None else None

        def rule(lr: float = 1.0, **about: Any) -> GateRule:
            options = self.rule_options() | {"lr": self.lr * lr}
            return GateRule(entropy=self.entropy, **about, **options, **watched)

        if self.keep == "all" or len(self.pool) == 1:
            return [Phase("full", rule(), batches, self.epochs(batches), patience)]
        whole = self.epochs(batches)
        first, second, third = (max(1, round(s * whole)) for s in self.phases)
        mode = "gumbel" if self.select == "gumbel" else "straight"
        mode = "soft" if self.select == "anneal" else mode

        commits = rule(anneal=self.select == "anneal", settles_on=self._seen(batches))
        began = time.monotonic()

        def smaller(network: nn.Module) -> nn.Module:
            assert isinstance(network, SelectableNetwork)
            limit = None if self.time_limit is None else began + self.time_limit - time.monotonic()
            left = min(
                (s for s in (limit, current_session().seconds_left()) if s is not None),
                default=None,
            )
            epochs = max(1, round(self.race * third))
            return self._pruned(network, batches, held, watched, epochs, left)

        return [
            Phase("full", rule(), batches, first, patience, ends_at=ENDS[0]),
            Phase(
                "selective", commits, batches, second, keep="last", ends_at=ENDS[1],
                start=lambda network: network.set_mode(mode, self._least),  # type: ignore[operator]
            ),
            Phase(
                "pruned", rule(self.pruned_lr), batches, third, patience, start=smaller,
                rebuild=lambda arguments: self.kind(**arguments),
            ),
        ]  # fmt: skip

    def _seen(self, batches: ArrayBatches) -> dict[str, torch.Tensor]:
        """Training rows as they are in prediction, over which scores and means are taken."""
        return {name: tensor[: self.scored] for name, tensor in batches.tensors.items()}

    @property
    def _least(self) -> int:
        """Families that a gate keeps where it is pruned."""
        return 1 if self.keep == "validation" else int(self.keep)

    def _pruned(
        self,
        network: SelectableNetwork,
        batches: ArrayBatches,
        held: LabelledRows | None,
        watched: dict[str, Any],
        epochs: int,
        seconds: float | None = None,
    ) -> SelectableNetwork:
        """Choose, prune, and note how in the network's arguments, which a resume finds again.

        Args:
            seconds: that a limit leaves for the race and the phase that follows.
        """
        device = next(network.parameters()).device
        network.set_mode("soft")
        seen = {name: tensor.to(device) for name, tensor in self._seen(batches).items()}
        network.settle(seen)
        judged = seen
        if held is not None:
            tensors = self._tensors(self._features(held.samples, quietly=True), held)
            judged = {name: tensor[: self.scored].to(device) for name, tensor in tensors.items()}
        tell, places = current_session().on_event, itertools.count()
        if tell is not None:
            note = "scoring the families"
            tell({"phase": "race", "epoch": 0, "max_epochs": epochs, "note": note})
        way: str = self.select_by
        losses: dict[str, float] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_)
            if way == "validation" and held is None:
                way = "contribution"  # a race on training rows would crown the most flexible
            if way == "validation":
                sign = 1.0 if watched["mode"] == "min" else -1.0
                found = choices(network, self._least, judged, batch_loss, WAYS)
                if self.keep == "validation":
                    found["all"] = [torch.ones_like(g.gates).bool() for g in network.selectable]
                share = None if seconds is None else max(seconds, 1.0) * RACE / len(found)
                way, choice, losses = race(
                    network, found, seen,
                    lambda candidate: self._learn(
                        candidate, batches, watched["loss"], epochs, share,
                        _told_of_candidate(tell, next(places), len(found)),
                    ),
                    lambda made: sign * watched["validate"](made)[watched["monitor"]],
                )  # fmt: skip
            else:
                rows = judged if way in ("taylor", "ablation") else seen
                choice = choices(network, self._least, rows, batch_loss, (way,))[way]  # type: ignore[arg-type]
            gate = [layer.soft().tolist() for layer in network.selectable]
            parts = scores(network, "contribution", seen, batch_loss)
        made = prune(network, choice, seen)
        made.arguments["selection"] = {
            "score": way, "losses": losses, "gate": gate,
            "contribution": [score.tolist() for score in parts],
        }  # fmt: skip
        return made

    def _learn(
        self,
        network: SelectableNetwork,
        batches: ArrayBatches,
        loss: Any,
        epochs: int,
        seconds: float | None,
        told: OnEvent | None,
    ) -> None:
        """Train a candidate of the race, without weight decay, in the order of rows of the fit."""
        options = self.rule_options() | {"lr": self.lr * self.pruned_lr, "weight_decay": 0.0}
        rule = Backprop(loss, **options | {"warmup": 0.0})
        with session(on_event=told):
            train(network, rule, batches, max_epochs=epochs, seed=self.seed_,
                  precision=self.precision, device=self.device, time_limit=seconds)  # fmt: skip

    @property
    def choice_(self) -> pd.DataFrame:
        """What was chosen: layer, node, family, and its gate and contribution when it was."""
        check_is_fitted(self, "network_")
        made = cast(SelectableNetwork, self.network_).arguments
        pool, record = made["pool"], made["selection"] or {}
        rows = []
        for place, layer in enumerate(made["choice"] or []):
            for index in np.argwhere(np.array(layer)):
                *node, family = index.tolist()
                at = (place, *index.tolist())
                rows.append({
                    "layer": place, "node": ", ".join(map(str, node)) or "all",
                    "family": pool[family], "gate": _at(record.get("gate"), at),
                    "contribution": _at(record.get("contribution"), at),
                })  # fmt: skip
        return pd.DataFrame(rows, columns=["layer", "node", "family", "gate", "contribution"])

    def plot_edge(
        self, layer: int, node: int, output: int, tap: Sequence[int] | None = None
    ) -> "Figure":
        """A picture of the function that leads from a node of a layer to one of its outputs.

        Args:
            tap: row and column of a convolution's window; None for its middle.
        """
        from stackwise.build.skan.edges import edge_figure

        check_is_fitted(self, "network_")
        return edge_figure(cast(SelectableNetwork, self.network_), layer, node, output, tap)


def _told_of_candidate(tell: OnEvent | None, place: int, count: int) -> OnEvent | None:
    """What tells of a candidate's fit. How long the fit goes on is not known by it: a phase follows
    the race.
    """
    if tell is None:
        return None
    return lambda event: tell(part_of(event, place, count, "candidate") | {"seconds_left": None})


def _at(nested: Any, place: tuple[int, ...]) -> float:
    if nested is None:
        return math.nan
    for index in place:
        nested = nested[index]
    return float(nested)
