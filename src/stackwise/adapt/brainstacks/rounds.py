"""The inner loop, residual boosting: round after round, each on top of those before, frozen.

A round adds a fresh stack to every layer (B = 0, so that nothing changes at that moment), trains it
on the same data and loss, and freezes it. The held-out loss is looked at every so many steps: the
stack of its best moment is kept, and the round ends early where the loss has not improved for a
while or has risen far above its best. A round that gains too little is the last, and one that made
things worse is dropped (the authors' release keeps it).
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from stackwise.adapt.brainstacks.delta import Domain
from stackwise.adapt.brainstacks.experts import Experts, ExpertStack
from stackwise.adapt.brainstacks.null_space import MOST, directions, of_samples
from stackwise.adapt.brainstacks.places import adapted_layers, reached_layers, sizes_of
from stackwise.adapt.brainstacks.switch import ACTIVE, Standing, Switch, float_type
from stackwise.errors import KnobError, NothingLearned
from stackwise.learning.trainable import Trainable
from stackwise.training import Backprop, train_phases
from stackwise.training.batches import StepBatches
from stackwise.training.phases import Phase, Trained

BETAS = (0.9, 0.95)


@dataclass(frozen=True)
class Plan:
    """How a domain is learned; see `entry.brainstacks` for what each is."""

    rounds: int
    steps: int
    experts: int
    top_k: int
    rank: int
    scale: float
    balance: float
    noisy: bool
    targets: list[str] | None
    null_space: str
    null_dirs: int | None
    null_samples: int
    null_from: str
    min_gain: float
    patience: int | None
    spike: float | None
    evaluate_every: int
    dtype: torch.dtype
    lr: float
    weight_decay: float
    warmup: float
    seed: int
    device: str
    time_limit: float | None


class StackRule(Backprop):
    """AdamW on the stacks that are being learned: loss + c * sum over layers of their balance.

    What is frozen keeps its statistics too: batch normalisation stays as in evaluation.
    """

    def __init__(
        self, loss: Callable[[nn.Module, Any], Tensor], *, balance: float, **how: Any
    ) -> None:
        super().__init__(self._balanced, **how)
        self.task_loss, self.balance = loss, balance
        self.stacks: list[ExpertStack] = []
        self.still: list[nn.Module] = []

    def optimizers(self, model: nn.Module) -> list[Optimizer]:
        """One AdamW, with the betas of the paper."""
        self.stacks = [one for one in model.modules() if isinstance(one, ExpertStack)]
        norms = nn.modules.batchnorm._BatchNorm
        self.still = [one for one in model.modules() if isinstance(one, norms)]
        return [AdamW(self.groups(model), lr=self.lr, betas=BETAS, fused=True)]

    def step(self, loop: Any, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """A step, the balance beside the loss."""
        for norm in self.still:
            norm.eval()
        scalars = super().step(loop, model, batch)
        return scalars | {"balance": self._balance().detach()}

    def _balanced(self, model: nn.Module, batch: Any) -> Tensor:
        loss = self.task_loss(model, batch)
        return loss + self.balance * self._balance() if self.balance else loss

    def _balance(self) -> Tensor:
        """The sum over the layers that ran."""
        ran = [stack.balance for stack in self.stacks if stack.balance is not None]
        return torch.stack(ran).sum() if ran else torch.zeros(())


def learn_domain(
    joined: Trainable, name: str, plan: Plan, kept: Sequence[Mapping[str, Tensor]]
) -> Domain:
    """Learn the stacks of a domain beside a copy of a model on which those of others may be.

    Args:
        joined: the model, with the deltas on that are to stay frozen, and the domain's data.
        kept: what the domains that are on left behind (`Domain.directions`).

    Raises:
        NothingLearned: no round made the held-out loss smaller. ModelError: no layer, or no
            direction left.
    """
    if plan.top_k > plan.experts:
        raise KnobError(f"top_k ({plan.top_k}) must not exceed experts ({plan.experts})")
    model = copy.deepcopy(joined.model)
    model.requires_grad_(False)
    first = next(iter(joined.batches.epoch(0)))
    layers = reached_layers(
        model, adapted_layers(model, plan.targets), lambda module: joined.loss(module, first)
    )
    switch = Switch.of(model)
    earlier, switch.learning = tuple(switch.domains), name
    for layer in layers:
        switch.beside(model, layer)
    closed = _closed(model, joined, layers, plan, kept) if earlier else {}
    held = _held(joined)
    losses = [] if held is None else [held(model)]
    rounds: list[dict[str, Experts]] = []
    spent = 0.0
    for number in range(plan.rounds):
        if plan.time_limit is not None and spent >= plan.time_limit:
            break
        trained = _round(model, layers, joined, plan, closed, number, spent)
        spent += trained.seconds
        model = trained.model
        learned = _freeze(model, layers, plan)
        _stand(model, switch := Switch.of(model), name, [*rounds, learned], plan)
        if held is not None:
            loss = held(model)
            if not loss < losses[-1]:
                _stand(model, switch, name, rounds, plan)
                break
            losses.append(loss)
        rounds.append(learned)
        if held is not None and losses[-2] - losses[-1] < plan.min_gain:
            break
        if trained.stopped == "time":
            break
    if not rounds:
        raise NothingLearned(
            f"nothing was learned for {name}: the held-out loss was {losses[0]:.5g} before and "
            f"{loss:.5g} after the first round, whose stack is discarded; try a smaller lr or more "
            "steps"
        )
    model.cpu()
    left = _directions_of(model, layers, joined, plan)
    return Domain(rounds, left, plan.top_k, plan.scale, 1.0, earlier, tuple(losses))


def _held(joined: Trainable) -> Callable[[nn.Module], float] | None:
    """model -> its score on held-out data, smaller is better; None where nothing is held out."""
    validate, monitor = joined.validate, joined.monitor
    if validate is None or monitor is None:
        return None
    sign = 1.0 if joined.mode == "min" else -1.0

    @torch.no_grad()
    def held(model: nn.Module) -> float:
        model.eval()
        return sign * float(validate(model)[monitor])

    return held


def _directions_of(
    model: nn.Module, layers: Mapping[str, nn.Module], joined: Trainable, plan: Plan
) -> dict[str, Tensor]:
    """What the stacks on the model add to samples of this data, S V^T by layer."""
    return of_samples(
        model, layers, joined.batches.epoch(0), joined.loss, samples=plan.null_samples,
        count=plan.null_dirs or MOST,
    )  # fmt: skip


def _closed(
    model: nn.Module,
    joined: Trainable,
    layers: Mapping[str, nn.Module],
    plan: Plan,
    kept: Sequence[Mapping[str, Tensor]],
) -> dict[str, Tensor]:
    if plan.null_space == "off":
        return {}
    if plan.null_from == "new":
        kept = [_directions_of(model, layers, joined, plan)]
    sizes = {name: (sizes_of(layer) or (0, 0))[1] for name, layer in layers.items()}
    return directions(kept, sizes, plan.null_dirs)


def _round(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    joined: Trainable,
    plan: Plan,
    closed: Mapping[str, Tensor],
    number: int,
    spent: float,
) -> Trained:
    """Add a fresh stack to every layer and train it; its best moment is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed * 1_000 + number)
        for name, layer in layers.items():
            d_in, d_out = sizes_of(layer) or (0, 0)
            fresh = ExpertStack(
                d_in, d_out, experts=plan.experts, top_k=plan.top_k, rank=plan.rank,
                scale=plan.scale, noisy=plan.noisy, directions=closed.get(name),
                always=plan.null_space == "fold",
            )  # fmt: skip
            fresh.requires_grad_(True)
            layer.add_module(ACTIVE, fresh)
    rule = StackRule(
        joined.loss, balance=plan.balance, lr=plan.lr, weight_decay=plan.weight_decay,
        schedule="linear", warmup=plan.warmup, validate=joined.validate, monitor=joined.monitor,
        mode=joined.mode,
    )  # fmt: skip
    every = min(plan.evaluate_every, plan.steps)
    phase = Phase(
        f"round {number + 1}", rule, StepBatches(joined.batches, every),
        math.ceil(plan.steps / every), plan.patience, slack=plan.spike,
        keep="best" if rule.monitor else "last",
    )  # fmt: skip
    left = None if plan.time_limit is None else plan.time_limit - spent
    return train_phases(
        model, [phase], seed=plan.seed + number, device=plan.device, time_limit=left
    )


def _freeze(model: nn.Module, layers: Mapping[str, nn.Module], plan: Plan) -> dict[str, Experts]:
    """Take what was learned out of the layers, as it will be kept."""
    learned = {}
    for name in layers:
        layer = model.get_submodule(name)
        stack = layer._modules.pop(ACTIVE)
        assert isinstance(stack, ExpertStack)
        learned[name] = stack.done(plan.dtype, fold=plan.null_space == "fold")
    return learned


def _stand(
    model: nn.Module, switch: Switch, name: str, rounds: list[dict[str, Experts]], plan: Plan
) -> None:
    """Have these rounds beside the layers, in the type that they have when they are put on."""
    for layer in list(switch.layers):
        home = switch.layers[layer].standing
        home.pop(name, None)
        mine = [one[layer] for one in rounds if layer in one]
        if mine:
            dtype = float_type(model.get_submodule(layer))
            home[name] = Standing([one.to(dtype) for one in mine], plan.top_k, plan.scale)
