"""The phases of a sparse fine-tuning, as the training loop takes them.

Each round has two: all weights from where the round begins, then from there again the selected
entries alone. A phase begins with the random state of the fit, so that both see the same batches
and the same dropout. Where nothing is ranked (entries at random, biases, all of them) there is no
first phase.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.adapt.composable_sft.places import Places
from stackwise.adapt.composable_sft.rules import Masked, Ranked
from stackwise.adapt.composable_sft.selection import Masks, Scores, at_random, biases, largest
from stackwise.training.phases import Phase, Trained

Weights = dict[str, Tensor]
FULL = "full"


@dataclass(frozen=True)
class Plan:
    """What is asked of the rounds.

    Attributes:
        count: K. rounds: over which it is selected.
        score: of changes; None where nothing is ranked.
        full, sparse: epochs of either phase. seed: of the fit.
        everywhere: every entry is selected. only_biases: those of biases are.
    """

    count: int
    rounds: int
    score: Scores | None
    full: int
    sparse: int
    seed: int
    everywhere: bool = False
    only_biases: bool = False


@dataclass
class Round:
    """One round: the rules of its phases, and where it began."""

    number: int
    sparse: Masked
    full: Ranked | None
    before: "Round | None"

    @property
    def taken(self) -> Masks | None:
        """The entries that earlier rounds selected."""
        return None if self.before is None else self.before.sparse.masks


@dataclass(frozen=True)
class Concluded:
    """The trained model on the CPU, and the entries that count; None for all.

    Attributes:
        cut: whether a time limit ended training before the last sparse phase.
    """

    model: nn.Module
    masks: Masks | None
    cut: bool = False


class Rounds:
    """The phases, and what they find.

    Attributes:
        base: theta0 of all that learns, by name.
    """

    def __init__(
        self,
        network: nn.Module,
        places: Places,
        plan: Plan,
        joined: Any,
        options: Mapping[str, Any],
        *,
        strengths: tuple[float, float],
        heads_held: bool,
    ) -> None:
        """Freeze what does not learn.

        Args:
            joined: with the loss and the batches. options: of the rules.
            strengths: lambda / N of either phase. heads_held: whether it holds heads too.
        """
        self.places, self.plan, self.joined = places, plan, joined
        learns = places.maskable | places.heads
        self.base = {name: p.detach().clone() for name, p in learns.items()}
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in learns)
        held = learns if heads_held else places.maskable
        watched = {"validate": joined.validate, "monitor": joined.monitor, "mode": joined.mode}
        kept = {"base": {name: self.base[name] for name in held}, **options, **watched}
        self.rounds: list[Round] = []
        for number in range(1, plan.rounds + 1):
            before = self.rounds[-1] if self.rounds else None
            full = None
            if plan.score is not None:
                full = Ranked(joined.loss, strength=strengths[0], **kept)
                full.before = before.sparse if before else None
            sparse = Masked(joined.loss, strength=strengths[1], **kept)
            self.rounds.append(Round(number, sparse, full, before))

    def phases(self) -> list[Phase]:
        """Two a round; one where nothing is ranked."""
        found: list[Phase] = []
        for one in self.rounds:
            name = f" {one.number}" if len(self.rounds) > 1 else ""
            if one.full is not None:
                found.append(
                    Phase(f"{FULL}{name}", one.full, self.joined.batches, self.plan.full,
                          start=partial(self._begin, one))
                )  # fmt: skip
            found.append(
                Phase(f"sparse{name}", one.sparse, self.joined.batches, self.plan.sparse,
                      start=partial(self._begin_sparse, one))
            )  # fmt: skip
        for place, phase in enumerate(found, start=1):
            phase.ends_at = place / len(found)
        return found

    def concluded(self, trained: Trained) -> Concluded:
        """What the last sparse phase that was reached made.

        Where a time limit ended the first full phase, that is what there is: its largest changes.
        """
        model, name = trained.model.cpu(), str(trained.history[-1]["phase"])
        last = self.rounds[int(name.partition(" ")[2] or 1) - 1]
        if not name.startswith(FULL):
            return Concluded(model, None if self.plan.everywhere else last.sparse.masks)
        if last.before is None or last.full is None:
            return Concluded(model, self._ranked(last, now(model, self.base)), cut=True)
        put(model, last.full.begins)
        return Concluded(model, last.before.sparse.masks, cut=True)

    def _begin(self, one: Round, model: nn.Module) -> nn.Module:
        assert one.full is not None
        torch.manual_seed(self.plan.seed)
        one.full.begins = now(model, self.base)
        return model

    def _begin_sparse(self, one: Round, model: nn.Module) -> nn.Module:
        """Select, and go back to where the round began."""
        begins = now(model, self.base)
        if one.full is not None:
            masks = self._ranked(one, begins)
            begins = one.full.begins
            put(model, begins)
        else:
            masks = self._drawn(one)
        if one.taken is not None:
            masks = {name: mask | one.taken[name].cpu() for name, mask in masks.items()}
        one.sparse.begin_under(masks, {name: begins[name] for name in self.places.maskable})
        torch.manual_seed(self.plan.seed)
        return model

    def _ranked(self, one: Round, ends: Weights) -> Masks:
        """The entries that the full phase moved farthest from the base."""
        score = self.plan.score
        assert score is not None
        changes = {
            name: ends[name].float() - self.base[name].to(ends[name]).float()
            for name in self.places.maskable
        }
        return largest(score(changes), self.plan.count // self.plan.rounds, but=one.taken)

    def _drawn(self, one: Round) -> Masks:
        """Entries chosen without a look at the weights."""
        like = {name: self.base[name] for name in self.places.maskable}
        if self.plan.everywhere:
            return {}
        if self.plan.only_biases:
            return biases(like)
        wanted, seed = self.plan.count // self.plan.rounds, self.plan.seed + one.number
        return at_random(like, wanted, seed=seed, but=one.taken)


def now(model: nn.Module, names: Mapping[str, Any]) -> Weights:
    """Copies of these parameters as they are."""
    named = dict(model.named_parameters())
    return {name: named[name].detach().clone() for name in names}


@torch.no_grad()
def put(model: nn.Module, weights: Weights) -> None:
    """Write parameters back."""
    named = dict(model.named_parameters())
    for name, tensor in weights.items():
        named[name].copy_(tensor)
