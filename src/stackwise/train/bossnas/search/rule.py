"""How a step of a block's search learns: several paths, one after another, then one update."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.learning.outputs import output_loss
from stackwise.train.bossnas.search.bootstrapping import (
    Labelled,
    Pair,
    distance,
    ensemble_target,
    tau_at,
    view,
)
from stackwise.train.bossnas.search.sampling import Candidate
from stackwise.training.rules import Backprop, Loop

Draw = Callable[[int, int], Sequence[Candidate]]
"""(epoch, place) -> the paths of a step."""


class BootstrapRule(Backprop):
    """Paths learn their common target, or each its own.

    Args:
        draw: the paths of a step. names: of the inputs.
        together: all paths have one target; else each has the one of its own.
        own: each path has a pair of views of its own (2 views a path in a batch), else all one.
        ema: tau at the beginning.
    """

    def __init__(
        self, draw: Draw, names: Sequence[str], *, together: bool, own: bool, ema: float,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(_no_loss, **options)
        self.draw, self.names, self.together, self.own = draw, names, together, own
        self.ema = ema

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Both views of every path through the teacher, then each path's loss, backward at once."""
        assert isinstance(model, Pair)
        chosen = self.draw(loop.epoch, loop.place)
        views = [
            [view(batch, 2 * place * self.own + side, self.names) for side in (0, 1)]
            for place in range(len(chosen))
        ]
        with torch.no_grad():
            seen = [
                [model.teacher(pair[side], path, state) for pair, (state, path, _) in
                 zip(views, chosen, strict=True)]
                for side in (0, 1)
            ]  # fmt: skip
            if self.together:
                targets = [[ensemble_target(of)] * len(chosen) for of in seen]
            else:
                targets = seen
        total = torch.zeros((), device=seen[0][0].device)
        for place, (state, path, _) in enumerate(chosen):
            losses = [
                distance(model.answers(views[place][side], path, state), targets[1 - side][place])
                for side in (0, 1)
            ]
            loss = (losses[0] + losses[1]).mean() / len(chosen)
            loop.backward(loss)
            total = total + loss.detach()
        self.update(loop, loop.optimizers[0])
        model.follow(tau_at(loop.step + 1, loop.schedule_steps, self.ema))
        return {"loss": total}


class LabelledRule(Backprop):
    """Paths learn the labels."""

    def __init__(self, draw: Draw, names: Sequence[str], **options: Any) -> None:
        super().__init__(_no_loss, **options)
        self.draw, self.names = draw, names

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The loss of each path on its own view."""
        assert isinstance(model, Labelled)
        chosen = self.draw(loop.epoch, loop.place)
        many = batch[self.names[0]].shape[1]
        total = torch.zeros((), device=batch[self.names[0]].device)
        for place, (state, path, _) in enumerate(chosen):
            answers = model.answers(view(batch, place % many, self.names), path, state)
            loss = output_loss(answers, batch) / len(chosen)
            loop.backward(loss)
            total = total + loss.detach()
        self.update(loop, loop.optimizers[0])
        return {"loss": total}


def _no_loss(model: nn.Module, batch: Any) -> Tensor:
    return torch.zeros(())
