"""What coefficients are learned for: the loss of a batch, and what better means.

supervised   the loss of the data, and the sum with that of other data (addition)
negate       minus the loss of the data, plus that of a control (negation)
entropy      the entropy of answers, of those that are sure enough, sharpness-aware (SAR)
ufm          FixMatch without any label
simclr       two views of a sample are alike, two samples are not
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from stackwise.adapt.atlas.calls import Loss, call_of, entropies, features_of, flat_logits
from stackwise.adapt.atlas.composition import Composition
from stackwise.adapt.atlas.views import strong_view
from stackwise.errors import DataError
from stackwise.learning.trainable import Trainable
from stackwise.training.rules import Backprop, Loop

Objective = Literal["supervised", "negate", "entropy", "ufm", "simclr"]
Scores = Mapping[str, float]
SURE = 0.4
"""Of ln C: answers of a higher entropy teach nothing (arXiv 2302.12400)."""
RADIUS = 0.05
"""Of the step to the sharpest place nearby (likewise)."""
ALIKE = 0.1
"""Temperature of the similarities of two views."""


def watched_loss(of_network: Loss, l1: float, l2: float) -> Callable[[Any, Any], Tensor]:
    """A loss of a network as one of a composition: theta is written, the penalty added."""

    def loss(composition: Composition, batch: Any) -> Tensor:
        found = of_network(composition.written(), batch)
        return found + composition.penalty(l1, l2) if l1 or l2 else found

    return loss


def added(losses: Sequence[Loss], *, forget: bool) -> Loss:
    """The sum of the losses of several data sets, each on its batch of a list; with `forget` the
    first counts against it.
    """
    signs = [-1.0 if forget and place == 0 else 1.0 for place in range(len(losses))]

    def loss(network: nn.Module, batches: Sequence[Any]) -> Tensor:
        found = [
            sign * one(network, batch)
            for sign, one, batch in zip(signs, losses, batches, strict=True)
        ]
        return torch.stack(found).sum()

    return loss


def of_contrast(loss: Loss) -> Loss:
    """NT-Xent (SimCLR, arXiv 2002.05709): of the features of two views of each sample, its own
    other view should be the nearest.
    """

    def contrast(network: nn.Module, batch: Any) -> Tensor:
        call = call_of(loss, network, batch)
        views = [call.having(strong_view(call.tensors())) for _ in range(2)]
        found = torch.cat([features_of(network, view) for view in views]).float()
        rows = len(found) // 2
        if rows < 2:
            raise DataError("simclr compares samples: give batches of two or more")
        found = functional.normalize(found, dim=1)
        alike = found @ found.T / ALIKE
        alike.fill_diagonal_(-math.inf)
        partner = torch.arange(2 * rows, device=alike.device).roll(rows)
        return functional.cross_entropy(alike, partner)

    return contrast


class SharpnessAware(Backprop):
    """Minimise the entropy of sure answers at the sharpest place nearby (SAR, arXiv 2302.12400).

    Of a batch, rows of an entropy above 0.4 ln C are left out, lambda moves by rho g / |g|, rows
    are chosen again there, and the gradient of that place moves lambda from where it was.
    """

    def __init__(self, loss: Loss, l1: float, l2: float, **training: Any) -> None:
        super().__init__(watched_loss(_sure(loss), l1, l2), **training)

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Two backward passes, one step."""
        optimizer: Optimizer = loop.optimizers[0]
        first = self.loss(model, batch)
        loop.backward(first)
        loop.average_gradients(optimizer)
        (values,) = self.parameters
        gradient, before = values.grad, values.detach().clone()
        if gradient is not None:
            with torch.no_grad():
                values.add_(RADIUS * gradient / gradient.norm().clamp_min(1e-12))
            optimizer.zero_grad(set_to_none=True)
            loop.backward(self.loss(model, batch))
            with torch.no_grad():
                values.copy_(before)
        self.update(loop, optimizer)
        return {"loss": first.detach()}


def _sure(loss: Loss) -> Loss:
    def entropy(network: nn.Module, batch: Any) -> Tensor:
        output = call_of(loss, network, batch).answer(network)
        each = entropies(output)
        sure = (each.detach() < SURE * math.log(output.shape[-1])).float()
        # without a sure row there is nothing to learn from, and a graph all the same
        return (each * sure).sum() / sure.sum().clamp_min(1.0)

    return entropy


# ---- what better means


def relative(parts: Sequence[Trainable], start: Sequence[float]) -> Callable[[nn.Module], Scores]:
    """The mean over data sets of the watched score, each over its value at the base."""

    def validate(network: nn.Module) -> Scores:
        scores = [score_of(one, network) for one in parts]
        ratios = [s / b if b else s for s, b in zip(scores, start, strict=True)]
        return {
            "relative": sum(ratios) / len(ratios),
            **{f"{watched(one)}_{place}": s for place, (one, s) in enumerate(zip(parts, scores))},
        }

    return validate


def forgetting(
    target: Trainable, controls: Sequence[Trainable], kept: float, network: nn.Module
) -> Callable[[nn.Module], Scores]:
    """How well the target is still known, among coefficients that keep the controls.

    What is compared is accuracy where the data have it, else the loss. Where a control has less
    than `kept` of what the base has there, the shortfall comes on top, a thousandfold, so that
    any coefficients that keep it are better: `remembered`, smaller is better.

    Args:
        network: the base.
    """
    least = [knowledge(one, network) for one in controls]

    def validate(composed: nn.Module) -> Scores:
        known = knowledge(target, composed)
        now = [knowledge(one, composed) for one in controls]
        lost = [max(kept - share(n, b), 0.0) for n, b in zip(now, least, strict=True)]
        return {
            "remembered": known[0] + 1000 * sum(lost), "target": known[0],
            **{f"control_{place}": n[0] for place, n in enumerate(now)},
        }  # fmt: skip

    return validate


def knowledge(one: Trainable, network: nn.Module) -> tuple[float, bool]:
    """(how much a network knows, more is more; whether that is an accuracy). A loss counts as its
    negative.
    """
    scores = _validated(one, network)
    if "accuracy" in scores:
        return scores["accuracy"], True
    return -signed(one, scores), False


def share(now: tuple[float, bool], before: tuple[float, bool]) -> float:
    """What is left of the base's knowledge: of accuracies the ratio, of losses its inverse."""
    if now[1]:
        return now[0] / before[0] if before[0] else 1.0
    return before[0] / now[0] if now[0] < 0 else 1.0


def score_of(one: Trainable, network: nn.Module) -> float:
    """The watched score of a network."""
    return float(_validated(one, network)[watched(one)])


def watched(one: Trainable) -> str:
    """The name of the watched score."""
    return one.monitor or "loss"


def signed(one: Trainable, scores: Scores) -> float:
    """The watched score, smaller is better."""
    value = float(scores[watched(one)])
    return value if one.mode == "min" else -value


@torch.no_grad()
def _validated(one: Trainable, network: nn.Module) -> Scores:
    if one.validate is not None:
        return one.validate(network)
    return {watched(one): mean_loss(one, network)}


@torch.no_grad()
def mean_loss(one: Trainable, network: nn.Module) -> float:
    """The mean loss over the batches of an epoch: what stands in where nothing is held out."""
    losses = [float(one.loss(network, batch)) for batch in one.batches.epoch(0)]
    return sum(losses) / len(losses)


def no_better(after: float, before: float, mode: str) -> bool:
    """Whether a score is not strictly better than another."""
    return after >= before if mode == "min" else after <= before


def check_classes(loss: Loss, network: nn.Module, batch: Any) -> None:
    """Nothing where a model's answers are of classes.

    Raises:
        ModelError: they are not.
    """
    with torch.no_grad():
        flat_logits(call_of(loss, network, batch).answer(network))
