"""Members as one network: the weights of n networks stacked, their steps taken at once.

    theta = stack(theta_1, ..., theta_n),    f(theta, x)_i = f(theta_i, x_i)              (vmap)

Each member keeps its own rows, its own loss, its own norm to clip, and its own best weights, and
AdamW works by element: where nothing is drawn at random within a step (dropout), the members are
those that are trained apart, to rounding. n small products become one, which is faster where a
step of one network is mostly calls; convolutions, which become grouped ones, are not faster on a
CPU (see the benchmark), so that `auto` takes this way for linear layers alone.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim import Optimizer

from stackwise import processes
from stackwise.combine.rich_representations.features import refuse_equal
from stackwise.combine.rich_representations.members import Rows, planned
from stackwise.errors import KnobError, ModelError
from stackwise.learning.outputs import inputs_in, output_loss_of
from stackwise.training.batches import Batches
from stackwise.training.best import Best
from stackwise.training.phases import Phase
from stackwise.training.rules import Backprop, Loop

DENSE = (nn.Linear, nn.LayerNorm)
"""Modules with weights for which one network is faster than n."""
FASTEST_UP_TO = 2**17
"""Weights of a member up to which it is (see the benchmark)."""


class StackedNetworks(nn.Module):
    """n networks of one form: inputs (n, B, ...) -> outputs (n, B, ...).

    Args:
        networks: of one class and one shape; their weights are copied.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        weights, buffers = stack_module_state(list(networks))  # type: ignore[arg-type]
        self.names, self.buffer_names = list(weights), list(buffers)
        self.weights = nn.ParameterList(weights.values())
        for place, buffer in enumerate(buffers.values()):
            self.register_buffer(f"buffer{place}", buffer)
        # not a child: its weights are placeholders
        object.__setattr__(self, "form", copy.deepcopy(networks[0]).to("meta"))

    def state_of(self, member: int) -> dict[str, Tensor]:
        """The state of one member."""
        found = {name: w[member] for name, w in zip(self.names, self.weights, strict=True)}
        return found | {name: buffer[member] for name, buffer in self._buffers_by_name().items()}

    def _buffers_by_name(self) -> dict[str, Tensor]:
        return {
            name: self.get_buffer(f"buffer{place}") for place, name in enumerate(self.buffer_names)
        }

    def forward(self, **inputs: Tensor) -> Tensor:
        """(n, B, ...) by name -> (n, B, C)."""
        form: Any = self.form
        form.train(self.training)

        def one(weights: Any, buffers: Any, given: Any) -> Any:
            return functional_call(form, (weights, buffers), (), given)

        weights = dict(zip(self.names, self.weights, strict=True))
        found: Tensor = vmap(one, randomness="different")(weights, self._buffers_by_name(), inputs)
        return found


class StackedBatches:
    """The batches of n members side by side, (n, B, ...): each keeps its own order."""

    def __init__(self, each: Sequence[Batches]) -> None:
        self.each = list(each)

    def __len__(self) -> int:
        return len(self.each[0])

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of epoch `index` from step `start` on."""
        for several in zip(*(one.epoch(index, start) for one in self.each), strict=True):
            yield {name: torch.stack([batch[name] for batch in several]) for name in several[0]}


class SideBySide(Backprop):
    """A step of every member, and the best weights of each.

    Args:
        rules: of the members, alike but for what they draw.
        network: of the members' form, in which they are judged.
        patience: epochs without a better score after which a member keeps what it has.
    """

    def __init__(self, rules: Sequence[Backprop], network: nn.Module, patience: int | None) -> None:
        first = rules[0]
        super().__init__(
            first.loss, lr=first.lr, weight_decay=first.weight_decay, grad_clip=None,
            decay=lambda name, weight: first.decay(name, nn.Parameter(weight[0])),
            schedule=first.schedule, warmup=first.warmup, mode=first.mode,
        )  # fmt: skip
        self.rules, self.network, self.patience = list(rules), copy.deepcopy(network), patience
        self.clip_at = first.grad_clip
        self.monitor = "best" if first.monitor is not None else None
        self.best = [Best() for _ in rules]
        self.epochs = 0

    def named(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """The stacked weights, by the names that they have in one member."""
        assert isinstance(model, StackedNetworks)
        return [(name, w) for name, w in zip(model.names, model.weights, strict=True)]

    def step(self, loop: Loop, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sum of the members' losses: each gradient is one member's own."""
        outputs = model(**inputs_in(batch))
        losses = [
            output_loss_of(rule.loss)(
                outputs[place], {name: tensor[place] for name, tensor in batch.items()}
            )
            for place, rule in enumerate(self.rules)
        ]
        loss = torch.stack(losses).sum()
        loop.backward(loss)
        self.update(loop, loop.optimizers[0])
        return {"loss": loss.detach() / len(losses)}

    def take_step(self, loop: Loop, optimizer: Optimizer) -> None:
        """Clip each member by its own norm, then step."""
        if self.clip_at is not None:
            gradients = [w.grad for w in self.parameters if w.grad is not None]
            squares = [gradient.flatten(1).square().sum(1) for gradient in gradients]
            norms = torch.stack(squares).sum(0).sqrt()
            factors = (self.clip_at / (norms + 1e-6)).clamp(max=1.0)
            for gradient in gradients:
                gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
        super().take_step(loop, optimizer)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """The members' mean scores, and as `best` the mean of their best so far."""
        self.epochs += 1
        if self.monitor is None:
            return {}
        assert isinstance(model, StackedNetworks)
        self.network.to(model.weights[0].device)
        found = []
        for place, (rule, best) in enumerate(zip(self.rules, self.best, strict=True)):
            self.network.load_state_dict(model.state_of(place))
            scores = rule.validate(self.network)
            found.append(scores)
            if self.patience is None or best.stale < self.patience:
                name = str(rule.monitor)
                best.consider(self.network, scores[name], self.epochs, mode=self.mode, keep=True)
        means = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
        return means | {"best": sum(best.score for best in self.best) / len(self.best)}

    def state(self) -> dict[str, Tensor]:
        """The best weights of each member, with their scores."""
        found = {"epochs": torch.tensor(self.epochs)}
        for place, best in enumerate(self.best):
            numbers = [best.score, best.epoch, best.stale]
            found[f"{place}"] = torch.tensor(numbers, dtype=torch.float64)
            found |= {f"{place}/{name}": tensor for name, tensor in best.weights.items()}
        return found

    def load_state(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.epochs = int(state["epochs"])
        for place in range(len(self.best)):
            score, epoch, stale = state[f"{place}"].tolist()
            start = f"{place}/"
            weights = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
            self.best[place] = Best(score, int(epoch), int(stale), weights=weights)


def train_together(learners: Sequence[Any], rows: Rows) -> list[Any]:
    """Fit learners of one form, with their own seeds, as one network.

    Raises:
        ModelError: their networks or their rules are not of a form that can be stacked.
    """
    plans = [planned(learner, rows) for learner in learners]
    networks = [network for network, _ in plans]
    phases = [each[0] for _, each in plans]
    _check_alike(networks, phases)
    refuse_equal(networks)
    first = phases[0]
    rules = [phase.rule for phase in phases]
    rule = SideBySide(rules, networks[0], first.patience)  # type: ignore[arg-type]
    batches = StackedBatches([phase.batches for phase in phases])
    phase = Phase(
        f"{len(learners)} members", rule, batches, first.max_epochs, first.patience, keep="last"
    )
    try:
        trained = learners[0].train(StackedNetworks(networks), [phase])
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        why = " ".join(str(error).split())[:120]
        raise ModelError(
            f"{type(networks[0]).__name__} cannot be stacked ({why}); take together=false"
        ) from error
    made: Any = trained.model
    for place, (learner, best) in enumerate(zip(learners, rule.best, strict=True)):
        state = best.weights or made.state_of(place)
        networks[place].load_state_dict({name: t.detach().clone() for name, t in state.items()})
        learner.network_ = networks[place].to(made.weights[0].device).eval()
        learner.history_ = trained.history
        learner.best_epoch_ = best.epoch if best.weights else len(trained.history)
        if place:
            learner.notes_ += learners[0].notes_[-1:] if trained.stopped == "time" else []
    return list(learners)


def is_faster(learner: Any, rows: Rows, seeds: int) -> bool:
    """Whether one network of all members is faster than one after another: where its weights are
    few and in linear layers alone, and nothing else is in the way.
    """
    if seeds < 2 or processes.count() > 1 or learner.varies_samples():
        return False
    try:
        network, (phase,) = planned(learner, rows)
    except ModelError:
        return False
    if type(phase.rule) is not Backprop:
        return False
    own = [m for m in network.modules() if next(m.parameters(recurse=False), None) is not None]
    weights = sum(parameter.numel() for parameter in network.parameters())
    return all(isinstance(module, DENSE) for module in own) and weights <= FASTEST_UP_TO


def _check_alike(networks: Sequence[nn.Module], phases: Sequence[Phase]) -> None:
    if processes.count() > 1:
        raise KnobError("several processes divide rows, not members: take together=false")
    rules = {type(phase.rule).__name__ for phase in phases}
    if rules != {"Backprop"} or type(phases[0].rule) is not Backprop:
        raise ModelError(f"a {rules.pop()} has steps of its own: take together=false")
    shapes = [{name: t.shape for name, t in network.state_dict().items()} for network in networks]
    if any(one != shapes[0] for one in shapes):
        raise ModelError("members differ in their shapes: take together=false")
