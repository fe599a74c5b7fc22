"""DISTILL: one network of a member's size that answers as all members do.

    L = 1/n sum_i T^2 KL(softmax(z_i / T) || softmax(h_i(phi_S(x)) / T))                   (eq. 3)

The student phi_S has n linear heads, head i for member i, on the rows that the members learned
from; the heads are dropped, and the trunk is the representation. One head for all members, or the
mean of their answers, would give another gradient: two members that disagree would teach nothing.
(eq. 3) is the usual form; the paper's own text on it could not be read. `targets="labels"` teaches
the members' predicted classes by cross-entropy, and `targets="features"` a linear map of phi_S onto
the members' standardised features by the squared error (ours).

What is kept of the heads is their mean, as the head that a fine-tuning may begin from.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.combine.rich_representations.features import (
    Concatenated,
    concat,
    linear_head,
    with_outputs,
)
from stackwise.combine.rich_representations.members import Rows, planned
from stackwise.errors import KnobError, ModelError
from stackwise.learning.labelled_rows import taken
from stackwise.learning.last_layer import called
from stackwise.learning.outputs import Distilling, inputs_in, output_loss
from stackwise.learning.row_blocks import outputs_of
from stackwise.training import train
from stackwise.training.batches import ListBatches
from stackwise.training.distillation import logits_of, teacher_losses
from stackwise.training.rules import Backprop

Targets = Literal["soft", "labels", "features"]


class ManyHeads(nn.Module):
    """A network whose last layer is n heads: (B, n C) read as (B, n, C).

    Args:
        network: gives n C numbers. heads: n.
    """

    def __init__(self, network: nn.Module, heads: int) -> None:
        super().__init__()
        self.network, self.heads = network, heads

    def forward(self, *args: Any, **named: Any) -> Tensor:
        """What the network is called with -> (B, n, C)."""
        return logits_of(self.network(*args, **named)).unflatten(-1, (self.heads, -1))


def heads_loss(output: Tensor, answers: Tensor, temperature: float = 4.0) -> Tensor:
    """(eq. 3), the mean over a batch and the heads.

    Args:
        output: (B, n, C) of the student's heads. answers: (B, n, C) logits of the members.
    """
    if output.shape != answers.shape:
        raise ModelError(
            f"the student answers with {output.shape[1]} heads of {output.shape[2]} classes, and "
            f"there are {answers.shape[1]} members of {answers.shape[2]}"
        )
    return teacher_losses(output, answers, temperature).mean()


@torch.no_grad()
def mean_of_heads(network: nn.Module, heads: int, layer: str | None = None) -> nn.Module:
    """A copy of a network with the mean of its heads for its last layer."""
    name, many = linear_head(network, layer)
    made = with_outputs(network, many.out_features // heads, layer)
    one = made.get_submodule(name)
    assert isinstance(one, nn.Linear)
    one.weight.copy_(many.weight.unflatten(0, (heads, -1)).mean(0))
    if one.bias is not None:
        one.bias.copy_(many.bias.unflatten(0, (heads, -1)).mean(0))
    return made


@dataclass
class FromMembers:
    """The loss of a student's batch: (eq. 3) or one of the others, weighed by the rows' weights.

    Attributes:
        ask: a batch's inputs -> what the members answer, for batches that hold no `teacher`.
    """

    targets: Targets
    temperature: float
    ask: Callable[[dict[str, Tensor]], Tensor] | None = None

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The loss."""
        taught = Distilling(0.0, self.temperature, self.ask)
        if self.targets == "soft":
            return taught(model, batch)
        output = model(**inputs_in(batch))
        answers = taught.answers(batch).to(output.device)
        if self.targets == "labels":
            plain = {"target": answers.argmax(-1), "weight": batch["weight"]}
            return output_loss(output, plain)
        losses = (output.float() - answers).square().mean((1, 2))
        return (losses * batch["weight"]).mean()


def train_student(
    learner: Any, members: Sequence[Any], rows: Rows, representation: Concatenated,
    inputs: Callable[[Any], Mapping[str, Any]], *, targets: Targets, temperature: float,
) -> Any:  # fmt: skip
    """Fit a learner to what the members answer.

    Args:
        learner: not fitted, of the members' own kind and size; its own seed.
        representation: of the members. inputs: samples -> what that is called with.

    Returns:
        the fitted learner, with the mean of its heads as its head.
    """
    network, (phase,) = planned(learner, rows)
    if type(phase.rule) is not Backprop:
        raise ModelError(
            f"a {type(learner).__name__} learns by a rule of its own and cannot be taught by "
            "members; take mode=cat"
        )
    answers, heads = _answering(members, representation, inputs, targets, rows)
    few = taken(rows.samples, np.arange(min(2, len(rows.target))))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(learner.seed_)
        many = ManyHeads(with_outputs(network, answers(few).flatten(1).shape[1]), heads)

    rule, batches = phase.rule, cast(Any, phase.batches)
    if learner.varies_samples():
        rule.loss = FromMembers(targets, temperature, lambda x: answers(learner.samples_of(x)))
    else:
        batches.tensors["teacher"] = answers(rows.samples)
        rule.loss = FromMembers(targets, temperature)
    if targets == "features":  # no answer of a class, by which validation rows could stop it
        rule.validation, rule.monitor, phase.patience = None, None, None
    trained: Any = learner.train(many, [phase]).model
    learner.network_ = mean_of_heads(trained.network, heads) if targets != "features" else (
        with_outputs(trained.network, len(learner.classes_))
    )  # fmt: skip
    learner.network_.eval()
    return learner


def _answering(
    members: Sequence[Any], representation: Concatenated,
    inputs: Callable[[Any], Mapping[str, Any]], targets: Targets, rows: Rows,
) -> tuple[Callable[[Any], Tensor], int]:  # fmt: skip
    """What the members answer to samples, (n, heads, numbers), and how many heads that takes."""
    if targets != "features":

        def said(samples: Any) -> Tensor:
            each = [torch.as_tensor(member.predict_proba(samples)) for member in members]
            # log p differs from the logits by a number a row, which softmax forgets
            return torch.stack(each, 1).clamp_min(torch.finfo(torch.float32).tiny).log().float()

        return said, len(members)

    def features(samples: Any) -> Tensor:
        with torch.no_grad():
            blocks = [z[:count] for z, count in outputs_of(representation, dict(inputs(samples)))]
        return torch.cat(blocks)

    known = features(rows.samples)
    mean, scale = known.mean(0), known.std(0).clamp_min(1e-6)
    return (lambda samples: ((features(samples) - mean) / scale)[:, None]), 1


def distill(
    members: Sequence[nn.Module],
    batches: Iterable[Any],
    student: nn.Module,
    *,
    temperature: float = 4.0,
    targets: Targets = "soft",
    layer: str | None = None,
    epochs: int = 10,
    lr: float = 1e-3,
    random_state: int = 0,
) -> nn.Module:
    """Distil modules into one; nothing of the members changes.

    Args:
        members: in evaluation mode, all called alike. batches: dicts of what they are called with,
            or tensors; labels in them are not looked at.
        student: a network of the members' form, whose last layer gives C numbers. Not changed.
        layer: the student's last layer, where it is not the last linear one.

    Returns:
        a copy of the student, distilled, the mean of its heads as its last layer.

    Raises:
        KnobError: the temperature is not above 0. ModelError: no members, or no linear head.
    """
    if temperature <= 0:
        raise KnobError(f"temperature must be above 0, got {temperature}")
    if targets not in ("soft", "labels", "features"):
        raise KnobError(f"targets must be soft, labels or features, got {targets!r}")
    representation = concat(members)
    ready = [batch if isinstance(batch, Mapping) else {"x": batch} for batch in batches]
    taught = []
    with torch.no_grad():
        for batch in ready:
            if targets == "features":
                found = called(representation, batch)[:, None]
            else:
                found = torch.stack([logits_of(called(m, batch)).detach() for m in members], 1)
            taught.append(dict(batch) | {"teacher": found})
    shape = taught[0]["teacher"].shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        many = ManyHeads(with_outputs(student, shape[1] * shape[2], layer), shape[1])

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        output = called(model, batch)
        if targets == "soft":
            return heads_loss(output, batch["teacher"], temperature)
        if targets == "labels":
            wanted = batch["teacher"].argmax(-1)
            return functional.cross_entropy(output.flatten(0, 1), wanted.flatten())
        return functional.mse_loss(output, batch["teacher"])

    rule = Backprop(loss, lr=lr, validate=None, monitor=None)
    trained: Any = train(
        many, rule, ListBatches(taught, seed=random_state), max_epochs=epochs, seed=random_state,
        name="distil",
    ).model  # fmt: skip
    if targets == "features":
        _, own = linear_head(student, layer)
        return with_outputs(trained.network, own.out_features, layer).eval()
    return mean_of_heads(trained.network, shape[1], layer).eval()
