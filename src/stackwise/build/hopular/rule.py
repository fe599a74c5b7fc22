"""How Hopular learns: hidden attributes and the target, LAMB, and slow weights that follow.

    every k steps:  slow <- slow + alpha (fast - slow)

The slow weights answer: they are validated and kept. The fast ones are not pulled back to them, as
in the authors' code; with `pull_back` they are, which is Lookahead (arXiv 1907.08610).
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stackwise.build.hopular.masking import Masking, annealed, attribute_losses, target_output
from stackwise.build.hopular.network import Hopular
from stackwise.learning.outputs import batch_loss, output_loss_of
from stackwise.training.lamb import Lamb
from stackwise.training.rules import Backprop, Loop


class Followed(nn.Module):
    """A network that learns (`fast`) and the one that follows it (`slow`), which answers."""

    def __init__(self, network: Hopular) -> None:
        super().__init__()
        self.fast = network
        self.slow = copy.deepcopy(network).requires_grad_(False)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """The answer of the network that is asked for: the slow one, but in training."""
        network = self.fast if self.training else self.slow
        answer: Tensor = network(numeric, categorical)
        return answer

    @torch.no_grad()
    def follow(self, alpha: float, *, pull_back: bool = False) -> None:
        """slow <- slow + alpha (fast - slow); with `pull_back` fast <- slow then."""
        for slow, fast in zip(self.slow.parameters(), self.fast.parameters(), strict=True):
            slow.lerp_(fast, alpha)
            if pull_back:
                fast.copy_(slow)


class HopularRule(Backprop):
    """Learn hidden attributes first and the target at last, by LAMB.

    Args:
        loss: of a batch; where it asks a teacher, the target's loss does so too.
        masking: how attributes are hidden.
        mix: lambda at the first and at the last step.
        memory_size: stored rows, drawn anew each step, that a step looks at; None for all.
        follow_every, follow_share, pull_back: of the slow weights.
    """

    def __init__(
        self,
        loss: Any = batch_loss,
        *,
        masking: Masking,
        mix: tuple[float, float] = (1.0, 0.0),
        memory_size: int | None = None,
        follow_every: int = 1,
        follow_share: float = 0.005,
        pull_back: bool = False,
        **training: Any,
    ) -> None:
        super().__init__(_no_loss, **training)
        self.of_target = output_loss_of(loss)
        self.masking, self.mix, self.memory_size = masking, mix, memory_size
        self.follow_every, self.follow_share = follow_every, follow_share
        self.pull_back = pull_back

    def optimizers(self, model: nn.Module) -> list[Optimizer]:
        """LAMB, with and without weight decay."""
        return [Lamb(self.groups(model), lr=self.lr)]

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """One step of the fast weights, and now and then of the slow ones."""
        assert isinstance(model, Followed)
        share = annealed(loop.step, loop.total_steps, *self.mix)
        guessed, wanted = self.losses(loop, model.fast, batch)
        loss = share * guessed + (1 - share) * wanted
        loop.backward(loss)
        self.update(loop, loop.optimizers[0])
        if (loop.step + 1) % self.follow_every == 0:
            model.follow(self.follow_share, pull_back=self.pull_back)
        return {"loss": loss, "attributes": guessed, "target": wanted}

    def losses(self, loop: Loop, network: Hopular, batch: Any) -> tuple[Tensor, Tensor]:
        """L_feature and L_target of a batch whose rows do not look at themselves."""
        numeric, categorical, target = batch["numeric"], batch["categorical"], batch["target"]
        rows, selected = self.masking.hide(
            network, numeric, categorical, target, for_each_row=loop.for_each_row
        )
        own, subset = batch["row"], None
        stored = len(network.memory_target)
        if self.memory_size is not None and self.memory_size < stored:
            subset = torch.randperm(stored, device=own.device)[: self.memory_size]
            place = own.new_full((stored,), -1)
            place[subset] = torch.arange(len(subset), device=own.device)
            own = place[own]
        answers = network.attribute_answers(rows, own=own, subset=subset)
        found = attribute_losses(
            network, answers, numeric, categorical, selected,
            sum_over_processes=loop.sum_over_processes,
        )  # fmt: skip
        # the loop counts a process's loss by its share of the rows; these are parts of a sum
        found = found / loop.share
        guessed = found.mean() if len(found) else answers.sum() * 0.0
        return guessed, self.of_target(target_output(network, answers), batch)


def _no_loss(model: nn.Module, batch: Any) -> Tensor:
    raise NotImplementedError  # the rule's own step makes the loss
