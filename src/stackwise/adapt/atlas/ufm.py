"""Unsupervised FixMatch: learn from unlabelled samples by what the model answers itself.

Each epoch the samples are ranked for each class by its probability; the first min(N / C, 100) of a
class are trusted and take the class as their label. Of the others, what the model answers to the
sample teaches what it answers to another view of it, where it is sure enough:

    l_u = -1(max sigma(y) > w) sigma_T(y)^T log sigma(y'),     sigma_T(y) = y^T / sum y^T

with w from 0.9 to 1 over the training, and T = 0.5 as printed (above 1 sharpens). A quarter of a
batch is trusted.

Source: arXiv 2407.02880, after FixMatch (arXiv 2001.07685). Vague there, and read so: a sample that
is among the first of two classes takes the one of the higher probability.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.adapt.atlas.calls import Call, Loss, call_of, flat_logits, rows_of
from stackwise.adapt.atlas.objectives import watched_loss
from stackwise.adapt.atlas.views import strong_view
from stackwise.errors import KnobError, ModelError
from stackwise.training.batches import Batches, epoch_generator
from stackwise.training.rules import Backprop, Loop

MOST_TRUSTED = 100
"""Trusted samples of a class."""
QUARTER = 4
SURE = (0.9, 1.0)
"""How sure the model must be of a sample, at the beginning and at the end."""


class Unlabelled:
    """Samples without their labels, and those of them that are trusted.

    A batch has `rows`, the tensors that the model is called with; the first `trusted` (B / 4,)
    have that class. What is trusted is estimated where an epoch begins, with `network`, and is a
    part of a checkpoint.

    Args:
        batches: whose samples these are. loss: by which they are read.
        network: gives the composed network of that moment.
    """

    def __init__(
        self, batches: Batches, loss: Loss, network: Any, *, size: int, seed: int = 0
    ) -> None:
        found = network()
        calls = [call_of(loss, found, batch) for batch in batches.epoch(0)]
        self.call: Call = calls[0]
        self.rows = rows_of(calls)
        self.count = len(next(iter(self.rows.values())))
        self.network, self.size, self.seed = network, max(min(size, self.count), 2), seed
        self.places, self.labels = torch.empty(0).long(), torch.empty(0).long()

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """The batches of an epoch; at its beginning the trusted samples are estimated."""
        if start == 0 or not len(self.places):
            self.estimate()
        sure = max(self.size // QUARTER, 1)
        generator = epoch_generator(self.seed, index)
        order = torch.randperm(self.count, generator=generator)
        trusted = torch.isin(order, self.places)
        others = order[~trusted] if bool((~trusted).any()) else order
        drawn = torch.randint(len(self.places), (len(self), sure), generator=generator)
        for step in range(start, len(self)):
            first = self.places[drawn[step]]
            asked = (torch.arange(self.size - sure) + step * (self.size - sure)) % len(others)
            chosen = torch.cat([first, others[asked]])
            yield {
                "rows": {name: rows[chosen] for name, rows in self.rows.items()},
                "trusted": self.labels[drawn[step]],
            }

    @torch.no_grad()
    def estimate(self) -> None:
        """Trust the first of each class."""
        network = self.network()
        device = next(network.parameters()).device
        answers = []
        for first in range(0, self.count, self.size):
            some = {n: r[first : first + self.size].to(device) for n, r in self.rows.items()}
            answers.append(probabilities(self.call.having(some), network).cpu())
        sure = torch.cat(answers)
        classes = sure.shape[1]
        most = max(min(self.count // classes, MOST_TRUSTED), 1)
        ranked = sure.topk(min(most, self.count), dim=0).indices
        best = torch.full((self.count,), -1.0)
        label = torch.zeros(self.count, dtype=torch.long)
        for one in range(classes):
            rows = ranked[:, one]
            better = rows[sure[rows, one] > best[rows]]
            best[better], label[better] = sure[better, one], one
        self.places = (best >= 0).nonzero()[:, 0]
        self.labels = label[self.places]


def probabilities(call: Call, network: nn.Module) -> Tensor:
    """(B, C), of an ensemble the mean of its members.

    Raises:
        ModelError: a sample has more than one answer.
    """
    output = call.answer(network)
    rows = len(next(iter(call.tensors().values())))
    if output.dim() > 3 or len(output) != rows or (output.dim() == 3 and _of_tokens(call)):
        raise ModelError("ufm asks for a class a sample, and this model answers token by token")
    shape = output.shape
    each = flat_logits(output).softmax(-1).view(shape)
    return each.mean(1) if each.dim() == 3 else each


def _of_tokens(call: Call) -> bool:
    return any("input_ids" in name for name in call.tensors())


class FixMatch(Backprop):
    """The rule: cross-entropy of trusted samples, and the loss of the others' other views."""

    def __init__(
        self, samples: Unlabelled, sharpen: float, l1: float, l2: float, **training: Any
    ) -> None:
        super().__init__(watched_loss(self.of_batch, l1, l2), **training)
        self.samples, self.sharpen, self.threshold = samples, sharpen, SURE[0]

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Learn, as sure as this moment asks."""
        if loop.processes > 1:
            raise KnobError("ufm learns in one process: its batches have two kinds of rows")
        self.threshold = SURE[0] + (SURE[1] - SURE[0]) * loop.step / max(loop.total_steps, 1)
        return super().step(loop, model, batch)

    def of_batch(self, network: nn.Module, batch: dict[str, Any]) -> Tensor:
        """The loss of a batch of `Unlabelled`."""
        call = self.samples.call.having(batch["rows"])
        other = self.samples.call.having(strong_view(batch["rows"]))
        sure = len(batch["trusted"])
        plain = probabilities(call, network)
        tiny = torch.finfo(plain.dtype).tiny
        known = functional.nll_loss(plain[:sure].clamp_min(tiny).log(), batch["trusted"])
        answers = probabilities(other, network)[sure:].clamp_min(tiny).log()
        wanted = pseudo_labels(plain[sure:].detach(), self.sharpen)
        counts = (plain[sure:].detach().amax(1) > self.threshold).float()
        return known + (-(wanted * answers).sum(1) * counts).mean()

    def state(self) -> dict[str, Tensor]:
        """What is trusted."""
        return {"places": self.samples.places, "labels": self.samples.labels}

    def load_state(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.samples.places, self.samples.labels = state["places"], state["labels"]


def pseudo_labels(probability: Tensor, exponent: float) -> Tensor:
    """sigma^T / sum sigma^T, (B, C)."""
    raised = probability.pow(exponent)
    return raised / raised.sum(1, keepdim=True)
