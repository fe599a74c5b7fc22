"""Fine-tuning a representation on a target task: in two stages, or all at once.

    stage 1    each member with its own head, separately: side by side, where there are cores
    stage 2    W = [W_1 ... W_n] / n, b = mean b_i, at first the mean of the members' logits; then
               W and b alone are trained, briefly, on features that stay as they are

A member keeps its head where the target has the same classes, and gets a new one otherwise. Fitted
learners and bare modules go the same way: what trains them, `trainable` says.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.combine.rich_representations.clock import Clock
from stackwise.combine.rich_representations.features import (
    Concatenated,
    Pooling,
    head_of,
    linear_head,
    with_outputs,
)
from stackwise.combine.rich_representations.heads import Head, Joined, joined_head
from stackwise.combine.rich_representations.learner import RichRepresentation
from stackwise.combine.rich_representations.probing import Rows as FeatureRows
from stackwise.combine.rich_representations.probing import log_loss
from stackwise.errors import DataError, ModelError
from stackwise.learning.apart import FitsApart
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.last_layer import labels_of
from stackwise.learning.outputs import BESIDE, batch_loss
from stackwise.learning.trainable import trainable
from stackwise.protocols import Task
from stackwise.training.batches import ArrayBatches
from stackwise.training.loop import train
from stackwise.training.rules import Backprop

STAGE_ONE = 0.9
"""Share of the time that the members get where it is limited."""


@dataclass(frozen=True)
class Budget:
    """How a model is trained: the arguments of `Backprop` and of the loop."""

    epochs: int = 10
    lr: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int | None = None
    min_steps: int = 0
    device: str = "auto"
    seed: int = 0

    def trained(self, model: Any, data: Any, loss: Any, limit: float | None, name: str) -> Any:
        """A copy of a learner or a module, trained on data."""
        joined = trainable(model, data, loss=loss, batch_size=self.batch_size, seed=self.seed)
        epochs = max(self.epochs, math.ceil(self.min_steps / len(joined.batches)))
        network = copy.deepcopy(joined.model)
        if epochs:
            rule = Backprop(
                joined.loss, lr=self.lr, weight_decay=self.weight_decay,
                validate=joined.validate, monitor=joined.monitor, mode=joined.mode,
            )  # fmt: skip
            network = train(
                network, rule, joined.batches, max_epochs=epochs, seed=self.seed,
                device=self.device, time_limit=limit, name=name,
            ).model  # fmt: skip
        return joined.finish(network.eval())


@dataclass(kw_only=True)
class Tunings(FitsApart):
    """Stage 1: the fine-tunings of members, one by one or side by side."""

    members: list[Any]
    data: Any
    budget: Budget = field(default_factory=Budget)
    loss: Callable[..., Tensor] | None = None
    layer: str | None = None
    kind: ClassVar[str] = "member"

    def one(self, place: int) -> Any:
        """A fine-tuned member."""
        return self.budget.trained(
            self.members[place], self.data, self.loss, None, self.names[place]
        )


def for_target(model: Any, data: Any, layer: str | None, seed: int) -> Any:
    """A copy of a member whose head has the classes of the data: its own head where it has these
    already, else a new one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(model, nn.Module):
            return _module_for(model, data, layer)
        made = copy.copy(model)
        before = np.asarray(model.classes_)
        made._learn_target(np.asarray(made._read_target(labels_in(data))))
        if not np.array_equal(before, made.classes_):
            network = with_outputs(model.network_, len(made.classes_), layer)
            return made.with_network(network)
        return made.with_network(copy.deepcopy(model.network_))


def labels_in(data: Any) -> Any:
    """The training targets of a loaded task or of (X, y).

    Raises:
        DataError: it is neither.
    """
    if isinstance(data, Task) and hasattr(data, "part"):
        return data.part("train")[1]
    if isinstance(data, tuple) and len(data) == 2:
        return data[1]
    raise DataError(f"learners are joined on a loaded task or on (X, y), not on a {_named(data)}")


def _module_for(model: nn.Module, data: Any, layer: str | None) -> nn.Module:
    _, head = linear_head(model, layer)
    classes = getattr(data, "classes", None)
    if classes is not None:
        wanted = len(classes)
    else:
        rows = [data[1]] if isinstance(data, tuple) else [labels_of(batch) for batch in data]
        wanted = max(head.out_features, int(torch.cat([y.flatten() for y in rows]).max()) + 1)
    if wanted == head.out_features:
        return copy.deepcopy(model)
    made: Any = with_outputs(model, wanted, layer)
    if hasattr(getattr(made, "config", None), "num_labels"):  # of transformers
        made.config.num_labels = made.num_labels = wanted
    return made


def head_alone(
    head: Head, rows: FeatureRows, held: FeatureRows | None, *, epochs: int, budget: Budget,
    lr: float, limit: float | None,
) -> Head:  # fmt: skip
    """Stage 2: a head trained on features that are computed once."""
    if not epochs:
        return head.eval()
    features, target, weight = rows
    counts = np.ones(len(target)) if weight is None else weight / weight.mean()
    tensors = {
        "features": torch.as_tensor(features), "target": torch.as_tensor(target),
        "weight": torch.as_tensor(counts).float(),
    }  # fmt: skip

    def validate(network: nn.Module) -> Mapping[str, float]:
        assert held is not None and isinstance(network, Head)
        return {"log_loss": log_loss(network, held)}

    rule = Backprop(
        batch_loss, lr=lr, weight_decay=budget.weight_decay,
        validate=None if held is None else validate, monitor="log_loss",
    )  # fmt: skip
    batches = ArrayBatches(tensors, budget.batch_size or 128, seed=budget.seed)
    trained: Any = train(
        head, rule, batches, max_epochs=epochs, seed=budget.seed, device=budget.device,
        time_limit=limit, name="joined head",
    ).model  # fmt: skip
    return trained.cpu().eval() if budget.device == "auto" else trained.eval()


def two_stage(
    members: Sequence[Any],
    target: Any,
    *,
    epochs: int = 10,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    batch_size: int | None = None,
    min_steps: int = 0,
    head_epochs: int = 2,
    head_lr: float = 1e-3,
    loss: Callable[..., Tensor] | None = None,
    layer: str | None = None,
    pooling: Pooling = "auto",
    workers: int = 1,
    on: str | None = None,
    threads: int | None = None,
    device: str = "auto",
    time_limit: float | None = None,
    random_state: int = 0,
) -> Any:
    """Fine-tune members apart, join their heads, and train the joined head.

    Args:
        members: fitted learners, or modules with a linear last layer. None is changed.
        target: a loaded task; (X, y), of modules tensors; or a list of batches.
        epochs, lr, weight_decay, batch_size, min_steps: of stage 1; min_steps where epochs are few.
        head_epochs, head_lr: of stage 2; 0 epochs keep the mean of the members' logits.

    Returns:
        a `RichRepresentation` of learners, a `Joined` of modules.

    Raises:
        ModelError: a member has no linear head.
    """
    members = list(members)
    refuse_mixed(members)
    for member in members:
        linear_head(getattr(member, "network_", member), layer)
    clock = Clock.of(time_limit)
    budget = Budget(epochs, lr, weight_decay, batch_size, min_steps, device, random_state)
    begun = [
        for_target(member, target, layer, random_state + place)
        for place, member in enumerate(members)
    ]
    stage = Tunings(
        names=[f"member {place + 1}" for place in range(len(members))], members=begun, data=target,
        budget=budget, loss=loss, layer=layer, workers=workers, on=on, threads=threads,
    )  # fmt: skip
    limit = clock.left(STAGE_ONE)
    found = dict(stage.results(limit))
    tuned = [found[place] for place in range(len(members))]
    networks = [getattr(member, "network_", member).cpu() for member in tuned]
    head = joined_head([linear_head(network, layer)[1] for network in networks])
    later: dict[str, Any] = {"epochs": head_epochs, "budget": budget, "lr": head_lr}
    if isinstance(members[0], nn.Module):
        representation = side_by_side(tuned, layer, pooling)
        rows = feature_rows(representation, batches_of(tuned[0], target, loss, budget))
        _check_head(representation, head, tuned, target, loss, budget)
        head = head_alone(head, rows, None, **later, limit=clock.left())
        return Joined(representation, head).eval()
    made = RichRepresentation.of_members(
        tuned, tuned[0].classes_, head, layer=layer, pooling=pooling, random_state=random_state
    )
    train_part, held = made.parts_of(target)
    rows = made.feature_rows(train_part)
    out = None if held is None else made.feature_rows(held)
    made.network_.head = head_alone(head, rows, out, **later, limit=clock.left())
    return made


def refuse_mixed(members: Sequence[Any]) -> None:
    """Raises:
    ModelError: some are modules and some are not, or there are none, or one is no classifier.
    """
    if not members:
        raise ModelError("a representation needs at least 1 member, got 0")
    modules = [isinstance(member, nn.Module) for member in members]
    if any(modules) and not all(modules):
        raise ModelError("members are all modules or all fitted learners, not some of both")
    for place, member in enumerate(members, 1):
        network = getattr(member, "network_", member)
        if not isinstance(network, nn.Module) or not (
            isinstance(member, nn.Module) or hasattr(member, "classes_")
        ):
            raise ModelError(
                f"member {place} is a {_named(member)}; members are modules or fitted classifiers "
                "of this library that have a network"
            )


def side_by_side(
    members: Sequence[nn.Module], layer: str | None, pooling: Pooling, *, frozen: bool = False
) -> Concatenated:
    """Modules as one representation, which may learn further."""
    layers = [head_of(member, layer)[0] for member in members]
    return Concatenated(members, layers, pooling=pooling, frozen=frozen)


def batches_of(module: nn.Module, data: Any, loss: Any, budget: Budget) -> list[Any]:
    """The batches of some data, in one order."""
    joined = trainable(module, data, loss=loss, batch_size=budget.batch_size, seed=budget.seed)
    return list(joined.batches.epoch(0))


def asked(module: Callable[..., Any], batch: Mapping[str, Tensor]) -> Any:
    """What a module makes of a batch. Labels stay with it: there are modules that need them."""
    named = {k: v for k, v in batch.items() if k not in (*BESIDE, "y")}
    return module(named["x"]) if set(named) == {"x"} else module(**named)


@torch.no_grad()
def feature_rows(representation: nn.Module, batches: Sequence[Any]) -> FeatureRows:
    """(n, d) features, (n,) codes and no weights of all batches."""
    representation.eval()
    found = [asked(representation, batch) for batch in batches]
    codes = [labels_of(batch) for batch in batches]
    return torch.cat(found).cpu().numpy(), torch.cat(codes).cpu().numpy(), None


@torch.no_grad()
def _check_head(
    representation: Concatenated, head: Head, members: Sequence[nn.Module], data: Any, loss: Any,
    budget: Budget,
) -> None:  # fmt: skip
    """The joined head must give the mean of what the members answer.

    Raises:
        ModelError: a member does more after its last layer, or that is another one.
    """
    batch = batches_of(members[0], data, loss, budget)[0]
    outputs = [asked(member, batch) for member in members]
    logits = [o if isinstance(o, Tensor) else getattr(o, "logits", None) for o in outputs]
    known = [one for one in logits if one is not None]
    if len(known) < len(members):
        return  # a loss alone, of which no logits can be read
    mean, joined = torch.stack(known).mean(0), head(asked(representation, batch))
    if mean.shape != joined.shape or not torch.allclose(mean, joined, atol=1e-3, rtol=1e-3):
        raise ModelError(
            f"a {type(members[0]).__name__} answers otherwise than its layer "
            f"{representation.layers[0]!r} does; name its last linear layer by layer="
        )


def all_at_once(
    members: Sequence[Any], data: Any, budget: Budget, *, loss: Any, layer: str | None,
    pooling: Pooling, limit: float | None,
) -> Any:  # fmt: skip
    """Initial fine-tuning: one new head on the members' features, and everything trained."""
    if isinstance(members[0], nn.Module):
        begun = [for_target(member, data, layer, budget.seed) for member in members]
        outputs = linear_head(begun[0], layer)[1].out_features
        representation = side_by_side(begun, layer, pooling)
        few = batches_of(begun[0], data, loss, budget)[:1]
        size = feature_rows(representation, few)[0].shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(budget.seed)
            whole: Any = Joined(representation, Head(size, outputs))
        return budget.trained(whole, data, loss, limit, "all at once")
    classes = np.unique(np.asarray(labels_in(data)))
    made = RichRepresentation.of_members(
        members, classes, layer=layer, pooling=pooling, random_state=budget.seed
    )
    train_part, _ = made.parts_of(data)
    size = made.feature_rows(LabelledRows.take(train_part, np.arange(1)))[0].shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(budget.seed)
        made.network_.head = Head(size, len(classes))
    return budget.trained(made, data, None, limit, "all at once")


def _named(thing: Any) -> str:
    return type(thing).__name__
