"""Train all sub-models of a network at once.

    min over theta of   E_{b ~ P} E_{(x, y)} [ L(f(x; theta|b), y) ]                       (eq. 1)

with theta|b the first b_j units along every axis. The schemes differ in which b a step takes:

    sampled      the batch falls into g parts, each goes through a b ~ P of its own, and their
                 gradients are averaged: (1 / g) sum_a grad L(f(x_a; theta|b_a), y_a)
    same-batch   g draws of b, each on the whole batch: g times the cost
    all          every b, each on the whole batch; depths of one width share one forward pass
    sandwich     the largest, the smallest and g others; all but the largest learn what that answers
    progressive  sampled among the largest, of which ever more are let in
    truncate     the whole network alone: ordinary training

In the sampled ones the whole network takes the place of the first draw with a probability of its
own, for under the uniform P it sees only one of K updates.

AdamW moves what a step did not touch: a unit outside of the slice has a gradient of exactly 0, so
that momentum and decay act on it. Blocks beyond the depth have none and rest.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stackwise.errors import DataError, KnobError, TrainingError
from stackwise.train.sortednet.reading import Axes, Spread
from stackwise.train.sortednet.spaces import Choice, Sizes, SortedSpace
from stackwise.train.sortednet.statistics import Statistics, batch_norms
from stackwise.training.batches import Batches
from stackwise.training.distillation import logits_of, teacher_losses
from stackwise.training.rules import Backprop, Loop

Scheme = Literal["sampled", "same-batch", "all", "sandwich", "progressive", "truncate"]
DRAWS = {"sampled": 1, "same-batch": 4, "sandwich": 2, "progressive": 1}
"""Draws of a step, by scheme, where none are asked for."""
DRAWING = ("sampled", "same-batch", "progressive")
"""Schemes in which the whole network may take the place of a draw."""
OPEN_AT, OPEN_BY = 0.2, 0.7
"""Shares of the steps between which the progressive scheme lets sub-models in."""
WATCHED = 4
"""Sub-models whose mean score says what is best: the smallest, the largest and two between."""


@dataclass(frozen=True)
class Drawing:
    """How a step takes sub-models.

    Attributes:
        accumulate: draws of a step; None for the scheme's own number.
        full_probability: that the whole network is in a step; "falling" goes from 1 to 0.
    """

    scheme: Scheme = "sampled"
    accumulate: int | None = None
    full_probability: float | Literal["falling"] = 0.0

    def __post_init__(self) -> None:
        if self.accumulate is not None and self.scheme not in DRAWS:
            raise KnobError(f"scheme={self.scheme} draws nothing: leave out accumulate")
        if self.full_probability and self.scheme not in DRAWING:
            raise KnobError(
                f"the whole network is in every step of scheme={self.scheme}: leave "
                "full_probability at 0"
            )

    @property
    def draws(self) -> int:
        """Draws of a step."""
        return self.accumulate or DRAWS.get(self.scheme, 1)

    def submodels(
        self, space: SortedSpace, generator: np.random.Generator, progress: float
    ) -> list[dict[str, int]]:
        """The sub-models of a step, the one that teaches the others first.

        Args:
            progress: the share of the training that is over.
        """
        if self.scheme == "truncate":
            return [space.full]
        if self.scheme == "all":
            return list(space.sizes[::-1])
        among = None
        if self.scheme == "progressive":
            opened = min(max((progress - OPEN_AT) / (OPEN_BY - OPEN_AT), 0.0), 1.0)
            among = max(1, round(opened * len(space)))
        drawn = [space.draw(generator, among) for _ in range(self.draws)]
        if self.scheme == "sandwich":
            ends = [space.full] if len(space) == 1 else [space.full, space.sizes[0]]
            return ends + drawn
        chance = 1 - progress if self.full_probability == "falling" else self.full_probability
        if generator.random() < chance:
            drawn[0] = space.full
        return drawn


class SortedRule:
    """A training rule that takes the steps of another one through sub-models.

    Args:
        inner: ordinary training: its loss, its optimizer, its validation.
        choice: the sizes of the sub-models. drawing: how a step takes them.
        seed: the sub-models of a step depend on it and on the step alone, so that a resumed run
            draws the same.
        batches: over which statistics of batch normalisation are recomputed before validation.
        running: keep the statistics of batch normalisation that each sub-model has in training.
    """

    def __init__(
        self,
        inner: Backprop,
        choice: Choice | SortedSpace,
        drawing: Drawing | None = None,
        *,
        seed: int = 0,
        spread: Spread = "first",
        batches: Batches | None = None,
        running: bool = False,
    ) -> None:
        self.inner, self.choice, self.drawing = inner, choice, drawing or Drawing()
        self.seed, self.spread, self.batches, self.running = seed, spread, batches, running
        self.monitor, self.mode, self.settled = inner.monitor, inner.mode, True
        self.statistics = Statistics()

    def optimizers(self, model: nn.Module) -> list[Optimizer]:
        """Those of ordinary training: they hold the whole weights."""
        if any(hasattr(parameter, "to_local") for parameter in model.parameters()):
            raise TrainingError(
                "sub-models are slices of whole weights and these lie in parts: leave out "
                "STACKWISE_SHARD"
            )
        self.axes = Axes.of(model, spread=self.spread)
        self.normalised = bool(batch_norms(model))
        choice = self.choice
        self.space = choice.space(self.axes.extents) if isinstance(choice, Choice) else choice
        return self.inner.optimizers(model)

    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Learn from one batch through the sub-models of this step."""
        generator = np.random.default_rng([self.seed, loop.step])
        progress = loop.step / max(loop.total_steps, 1)
        chosen = self.drawing.submodels(self.space, generator, progress)
        if self.drawing.scheme == "all":
            loss = self._all(loop, chosen, batch)
        elif self.drawing.scheme == "sandwich":
            loss = self._taught(loop, chosen, batch)
        else:
            split = self.drawing.scheme in ("sampled", "progressive")
            parts = parts_of(batch, len(chosen)) if split else [batch] * len(chosen)
            losses = [
                self._learn(loop, sizes, part, 1 / len(parts))
                for sizes, part in zip(chosen, parts, strict=False)
            ]
            loss = torch.stack(losses).mean()
        self.inner.update(loop, loop.optimizers[0])
        return {"loss": loss}

    def opened(self, sizes: Sizes) -> contextlib.AbstractContextManager[nn.Module]:
        """A sub-model to learn: with its own running statistics where these are followed."""
        if self.running and self.normalised:
            return self.statistics.used(self.axes, sizes, keep=True)
        return self.axes.cut_to(sizes)

    def _learn(self, loop: Loop, sizes: Sizes, batch: Any, share: float) -> Tensor:
        with self.opened(sizes) as network:
            loss = self.inner.loss(network, batch)
            loop.backward(loss if share == 1 else loss * share)
        return loss.detach()

    def _taught(self, loop: Loop, chosen: list[dict[str, int]], batch: Any) -> Tensor:
        """The first learns from the batch, the others what the first answered."""
        heard: list[Tensor] = []
        losses: list[Tensor] = []
        answers: Tensor | None = None
        hook = self.axes.network.register_forward_hook(
            lambda _, __, output: heard.append(logits_of(output))
        )
        try:
            for sizes in chosen:
                with self.opened(sizes) as network:
                    heard.clear()
                    loss = self.inner.loss(network, batch)
                    if answers is not None:
                        loss = teacher_losses(heard[0], answers, temperature=1.0).mean()
                    else:
                        answers = heard[0].detach()
                    loop.backward(loss / len(chosen))
                losses.append(loss.detach())
        finally:
            hook.remove()
        return torch.stack(losses).mean()

    def _all(self, loop: Loop, chosen: list[dict[str, int]], batch: Any) -> Tensor:
        """Every sub-model; where all that differs is the depth, in one forward pass."""
        shared = self.spread == "first" and self.axes.stages == 1 and not self.running
        groups: dict[Any, list[dict[str, int]]] = {}
        for number, sizes in enumerate(chosen):
            rest = tuple((axis, size) for axis, size in sizes.items() if axis != "depth")
            groups.setdefault(rest if shared else number, []).append(sizes)
        total = []
        for group in groups.values():
            group.sort(key=lambda sizes: -sizes["depth"])
            with self.opened(group[0]) as network:
                losses = exits(self.axes, self.inner.loss, network, batch, group)
                loop.backward(torch.stack(losses).sum() / len(chosen))
            total += [loss.detach() for loss in losses]
        return torch.stack(total).mean()

    @torch.no_grad()
    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """The mean scores of some sub-models on validation data, and those of the whole network as
        `full_<score>`.
        """
        found: list[Mapping[str, float]] = []
        if self.inner.validation is None:
            return {}
        watched = [self.space.full] if self.drawing.scheme == "truncate" else self._watched()
        for sizes in watched:
            with self.judged(sizes) as network:
                found.append(self.inner.validate(network))
        mean = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
        return mean | {f"full_{name}": value for name, value in found[-1].items()}

    @contextlib.contextmanager
    def judged(self, sizes: Sizes) -> Any:
        """A sub-model to be judged: with statistics that are right for it."""
        if not self.normalised:
            with self.axes.cut_to(sizes) as network:
                yield network
            return
        if self.batches is not None and not self.running:
            self.statistics.measure(self.axes, sizes, self.batches.epoch(0), self.inner.loss)
        with self.statistics.used(self.axes, sizes) as network:
            yield network

    def _watched(self) -> list[dict[str, int]]:
        last = len(self.space) - 1
        places = {round(last * part / (WATCHED - 1)) for part in range(WATCHED)}
        return [self.space.sizes[place] for place in sorted(places)]

    def state(self) -> dict[str, Tensor]:
        """The statistics that sub-models have in training."""
        return self.statistics.tensors()

    def load_state(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.statistics = Statistics.of_tensors(state)


def parts_of(batch: Any, count: int) -> list[Any]:
    """A batch in at most so many parts of its rows, as even as they can be.

    Raises:
        DataError: the batch is not tensors of one length by name.
    """
    if count == 1:
        return [batch]
    if not isinstance(batch, Mapping):
        raise DataError(
            f"a batch is a {type(batch).__name__}; to draw several sub-models a step, give dicts "
            "of tensors"
        )
    rows = len(next(iter(batch.values())))
    edges = np.linspace(0, rows, min(count, rows) + 1).round().astype(int)
    return [
        {name: tensor[start:stop] for name, tensor in batch.items()}
        for start, stop in pairwise(edges)
    ]


def exits(
    axes: Axes, loss: Any, network: nn.Module, batch: Any, group: list[dict[str, int]]
) -> list[Tensor]:
    """The loss at each depth of a group, from one pass through the blocks of the deepest.

    Args:
        group: sub-models that differ in depth alone, the deepest first; its width is open.
    """
    if len(group) == 1:
        return [loss(network, batch)]
    put_out: dict[int, Any] = {}

    def keep(place: int, forward: Any, args: Any, kwargs: Any) -> Any:
        put_out[place] = forward(*args, **kwargs)
        return put_out[place]

    def answer(place: int, forward: Any, args: Any, kwargs: Any) -> Any:
        return put_out[place]

    losses = []
    for number, sizes in enumerate(group):
        with axes.stack.around(answer if number else keep, order=axes.order(sizes["depth"])):
            losses.append(loss(network, batch))
    return losses
