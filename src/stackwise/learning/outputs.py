"""What a network's output means: its loss, its prediction, and how samples are put through.

A network returns (B, C) or, for an ensemble of k members, (B, k, C). Members are trained each on
its own loss and averaged only at prediction:

    loss       = 1 / (B k) sum_b sum_i loss(f_i(x_b), y_b)
    prediction = 1 / k sum_i value_i             or      1 / k sum_i softmax(logits_i)

The loss of the mean prediction would train one large model and lose what an ensemble gains
(arXiv 2410.24210, section 3).

A network may hold a part whose outputs are margins, which are no logits: that part says their loss
(`MarginHead`), they are averaged as they are, and the largest decides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.learning.row_blocks import output_of, outputs_of
from stackwise.training.distillation import teacher_losses

BESIDE = ("target", "weight", "row", "target_other", "share", "teacher")
"""What stands in a batch beside the network's inputs."""


class MarginHead(Protocol):
    """The part of a network that makes its outputs margins, one a class.

    Attributes:
        gives_margins: True, by which it is found.
    """

    gives_margins: bool

    def row_losses(self, output: Tensor, target: Tensor) -> Tensor:
        """(B,) losses of (B, C) margins and (B,) class codes."""
        ...

    def row_penalty(self) -> Tensor:
        """What is added to the mean of the losses: a scalar, such as a norm of the weights."""
        ...


def margin_head(network: nn.Module) -> MarginHead | None:
    """The part of a network that makes its outputs margins; None where they are logits."""
    found: Any = (m for m in network.modules() if getattr(m, "gives_margins", False))
    return next(found, None)


def row_losses(output: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """The loss of each row, averaged over members.

    Args:
        output: (B, C) or (B, k, C).
        target: (B,) or, where each member has rows of its own, (B, k); integer codes are classes
            and get cross-entropy, standardised numbers get the squared error.
        smoothing: share of a class that is spread over all classes.

    Returns:
        (B,) losses.
    """
    if output.ndim == 2:
        output = output[:, None]
    members = output.shape[1]
    if target.ndim == 1:
        target = target[:, None].expand(-1, members)
    if target.dtype.is_floating_point:
        losses = (output.squeeze(-1).float() - target) ** 2
    else:
        flat = functional.cross_entropy(
            output.flatten(0, 1).float(), target.flatten(), reduction="none",
            label_smoothing=smoothing,
        )  # fmt: skip
        losses = flat.view(-1, members)
    return losses.mean(1)


def batch_loss(model: nn.Module, batch: dict[str, Tensor], smoothing: float = 0.0) -> Tensor:
    """The weighted mean loss of a batch: the network's inputs, `target` and `weight`; where the
    network's outputs are margins, the loss and the penalty of its head.

    Samples that are mixed of two have `target_other` too, and `share` (B,): how much of the first
    they are. `smoothing` is that of `row_losses`.
    """
    output = output_of(model, inputs_in(batch))
    return output_loss(output, batch, margin_head(model), smoothing)


def inputs_in(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the network is called with of a batch."""
    return {name: tensor for name, tensor in batch.items() if name not in BESIDE}


def output_loss(
    output: Tensor,
    batch: Mapping[str, Tensor],
    head: MarginHead | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """`batch_loss` of what the network made of the batch, (B, C) or (B, k, C)."""
    of_rows = partial(row_losses, smoothing=smoothing) if head is None else head.row_losses
    losses = of_rows(output, batch["target"])
    if "share" in batch:
        share = batch["share"]
        losses = share * losses + (1 - share) * of_rows(output, batch["target_other"])
    loss = _weighed(losses, batch["weight"])
    return loss if head is None else loss + head.row_penalty()


def _weighed(losses: Tensor, weight: Tensor) -> Tensor:
    return (losses * (weight if weight.ndim == 1 else weight.mean(1))).mean()


@dataclass(frozen=True)
class Distilling:
    """The loss of a batch beside a teacher; called as `batch_loss` is.

        alpha * loss of the targets + (1 - alpha) * loss of the teacher's answers

    Attributes:
        alpha: share of the targets. temperature: T, of classes.
        ask: a network's inputs -> the teacher's answers, for batches that do not hold them as
            `teacher`.
    """

    alpha: float
    temperature: float = 2.0
    ask: Callable[[dict[str, Tensor]], Tensor] | None = None

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The weighted mean loss."""
        return self.of_output(output_of(model, inputs_in(batch)), batch, margin_head(model))

    def of_output(
        self, output: Tensor, batch: Mapping[str, Tensor], head: MarginHead | None = None
    ) -> Tensor:
        """The same of what the network made of the batch. Margins follow the teacher as logits."""
        if self.alpha == 1:
            return output_loss(output, batch, head)
        answers = self.answers(batch)
        output = output[:, None] if output.ndim == 2 else output
        answers = (answers[:, None] if answers.ndim == 2 else answers).to(output.device)
        losses = teacher_losses(output, answers, self.temperature).mean(1)  # over members
        soft = (1 - self.alpha) * _weighed(losses, batch["weight"])
        return soft + self.alpha * output_loss(output, batch, head) if self.alpha else soft

    def answers(self, batch: Mapping[str, Tensor]) -> Tensor:
        """What the teacher says of the rows of a batch, on their device."""
        if "teacher" in batch:
            return batch["teacher"]
        assert self.ask is not None
        return self.ask(inputs_in(batch)).to(batch["target"].device)


def output_loss_of(loss: Any) -> Callable[[Tensor, Mapping[str, Tensor]], Tensor]:
    """The loss of an output that `loss`, which is `batch_loss` or `Distilling`, gives."""
    return loss.of_output if isinstance(loss, Distilling) else output_loss


def through_network(
    network: nn.Module,
    inputs: Mapping[str, Any],
    reduce: Callable[[Tensor], np.ndarray],
    rows: int | None = None,
) -> np.ndarray:
    """Put rows through a network; no row's output depends on which others are given.

    See `row_blocks`.

    Args:
        inputs: what the network is called with, by name: (n, ...) each, an array or what gives
            tensors of rows that are asked for, with a `shape` and a `dtype`.
        reduce: what to keep of a block's (rows, k, C) float32 outputs: `member_values` or
            `mean_values`.
        rows: of a small block; None for what suits a network on rows of numbers.

    Returns:
        What `reduce` kept, for all n rows.
    """
    given = as_tensors(inputs)
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            found = [
                reduce(output if output.ndim == 3 else output[:, None])[:count]
                for output, count in outputs_of(network, given, rows)
            ]
    finally:
        network.train(was_training)
    return np.concatenate(found)


def as_tensors(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays as tensors; what gives tensors of rows by itself stays as it is."""
    return {
        name: torch.as_tensor(rows) if isinstance(rows, np.ndarray) else rows
        for name, rows in inputs.items()
    }


def member_values(outputs: Tensor, *, classes: bool) -> np.ndarray:
    """The values of each member, or where outputs are logits (`classes`) its probabilities,
    (n, k, C) float64.
    """
    values = outputs.double()
    return np.asarray((values.softmax(-1) if classes else values).numpy())


def mean_values(outputs: Tensor, *, classes: bool) -> np.ndarray:
    """The mean values or the mean probabilities, (n, C) float64.

    Added member by member: a library's sum may take another order at the end of a block.
    """
    values = member_values(outputs, classes=classes)
    total = np.zeros_like(values[:, 0])
    for member in range(values.shape[1]):
        total += values[:, member]
    return np.asarray(total / values.shape[1])


def validation_scores(
    mean: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    *,
    classes: bool,
    scale: float = 1.0,
    head: MarginHead | None = None,
) -> dict[str, float]:
    """How good a mean prediction is: `rmse` in the target's own unit, `log_loss` and `accuracy`, or
    of margins `margin_loss` and `accuracy`.

    Args:
        mean: (n, 1) standardised values, or (n, C) probabilities or margins.
        target: (n,) standardised values or class codes.
        weight: (n,) how much each row counts.
        head: of a network whose outputs are margins.
    """
    share = weight / weight.sum()
    if not classes:
        return {"rmse": float(np.sqrt((share * (mean[:, 0] - target) ** 2).sum()) * scale)}
    right = mean.argmax(1) == target
    if head is not None:
        losses = head.row_losses(torch.as_tensor(mean), torch.as_tensor(target)).numpy()
        return {
            "margin_loss": float((share * losses).sum()), "accuracy": float((share * right).sum())
        }  # fmt: skip
    chosen = mean[np.arange(len(target)), target]
    return {
        "log_loss": float(-(share * np.log(np.clip(chosen, 1e-12, None))).sum()),
        "accuracy": float((share * right).sum()),
    }
