"""A block's two networks, and what one learns of the other.

    target   T^ = 1/|p| sum_p  z'(a_p; x'_p) / ||z'(a_p; x'_p)||         no gradient
    loss     L  = 1/|p| sum_p  || q(z(a_p; x_p)) / ||.|| - T^ / ||T^|| ||^2,  and views swapped
    teacher  W' <- tau W' + (1 - tau) W,     tau from its base to 1 by a cosine

z is the block's output, aligned to one form, averaged over places and projected. All paths of a
step chase one target: where each chases its own (`plain`), paths that share weights are pulled
apart.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.train.bossnas.spaces.space import Path, Space
from stackwise.train.bossnas.spaces.super_block import SuperBlock, pooled

Inputs = Mapping[str, Tensor]


class Stem(nn.Module):
    """What the first block is given, or a block that is searched apart: the stem's output, brought
    to the form of the state by a bridge of its own.

    Args:
        states: in which the block may be entered; None builds no bridge.
    """

    fixed = False

    def __init__(self, space: Space, block: int, states: Sequence[int] | None) -> None:
        super().__init__()
        self.stem = space.stem()
        self.bridges = nn.ModuleDict({str(s): space.bridge(block, s) for s in states or ()})

    def forward(self, inputs: Inputs, state: int) -> Tensor:
        """The block's input, in a state."""
        h: Tensor = self.stem(**inputs)
        return self.bridges[str(state)](h) if str(state) in self.bridges else h


class Prefix(nn.Module):
    """What a later block is given: the best paths of the blocks before it.

    Args:
        fixed: no gradient reaches them.
    """

    def __init__(self, stem: nn.Module, layers: Sequence[nn.Module], *, fixed: bool) -> None:
        super().__init__()
        self.stem, self.layers, self.fixed = stem, nn.ModuleList(layers), fixed
        self.requires_grad_(not fixed)

    def forward(self, inputs: Inputs, state: int) -> Tensor:
        """The block's input; the state is that of the last of these layers."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.fixed):
            h: Tensor = self.stem(**inputs)
            for layer in self.layers:
                h = layer(h)
        return h


class Branch(nn.Module):
    """A block behind its source, with aligners and the projection: the paths' z.

    Args:
        ends: the states in which its paths may end.
        hidden, size: of the projection, Linear, BN, ReLU, Linear; size 0 for none.
    """

    def __init__(
        self, space: Space, block: int, source: nn.Module, ends: Sequence[int], hidden: int,
        size: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.source = source
        self.block = SuperBlock(space, block)
        self.aligners = nn.ModuleDict({str(end): space.align(block, end) for end in ends})
        self.neck = projection(space.aligned(block), hidden, size) if size else nn.Identity()

    def behind(self, h: Tensor, path: Path, state: int) -> Tensor:
        """(B, size) z of a path, from the block's input."""
        h, end = self.block(h, path, state)
        output: Tensor = self.neck(pooled(self.aligners[str(end)](h)))
        return output

    def forward(self, inputs: Inputs, path: Path, state: int) -> Tensor:
        """(B, size) z of a path."""
        return self.behind(self.source(inputs, state), path, state)


class Pair(nn.Module):
    """The online network with its predictor q, and the teacher, its moving average.

    Args:
        source: of the online network. teachers: of the teacher; None is a copy of it.
    """

    def __init__(
        self, space: Space, block: int, source: nn.Module, teachers: nn.Module | None,
        ends: Sequence[int], hidden: int, size: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.online = Branch(space, block, source, ends, hidden, size)
        self.teacher = copy.deepcopy(self.online)
        if teachers is not None:
            self.teacher.source = teachers
        self.teacher.requires_grad_(False)
        self.predictor = projection(size, hidden, size)

    def answers(self, inputs: Inputs, path: Path, state: int) -> Tensor:
        """(B, size) q(z) of the online network."""
        output: Tensor = self.predictor(self.online(inputs, path, state))
        return output

    @torch.no_grad()
    def follow(self, tau: float) -> None:
        """W' <- tau W' + (1 - tau) W, of what learns."""
        own = dict(self.online.named_parameters())
        pairs = [(w, own[n]) for n, w in self.teacher.named_parameters() if own[n].requires_grad]
        if pairs:
            teachers, learners = zip(*pairs, strict=True)
            torch._foreach_mul_(list(teachers), tau)
            torch._foreach_add_(list(teachers), list(learners), alpha=1 - tau)


class Labelled(nn.Module):
    """The rival that is told the labels: a block with a linear layer behind it."""

    def __init__(
        self, space: Space, block: int, source: nn.Module, ends: Sequence[int], n_outputs: int
    ) -> None:
        super().__init__()
        self.online = Branch(space, block, source, ends, 0, 0)
        self.answer = nn.Linear(space.aligned(block), n_outputs)

    def answers(self, inputs: Inputs, path: Path, state: int) -> Tensor:
        """(B, n_outputs) of a path."""
        output: Tensor = self.answer(self.online(inputs, path, state))
        return output


Objective = Literal["ensemble", "plain", "supervised"]


def projection(before: int, hidden: int, size: int) -> nn.Sequential:
    """Linear, BN, ReLU, Linear."""
    return nn.Sequential(
        nn.Linear(before, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, size)
    )


def unit(z: Tensor) -> Tensor:
    """z / ||z||."""
    return functional.normalize(z, dim=-1)


def ensemble_target(projections: Sequence[Tensor]) -> Tensor:
    """T^: the mean of unit vectors, (B, size)."""
    return torch.stack([unit(z) for z in projections]).mean(0)


def distance(answers: Tensor, target: Tensor) -> Tensor:
    """(B,) squared distance of the directions, 2 - 2 cos: 0 to 4."""
    return 2 - 2 * functional.cosine_similarity(answers, target, dim=-1)


def tau_at(step: int, total: int, first: float) -> float:
    """tau: from `first` to 1 by a cosine."""
    return 1 - (1 - first) * (math.cos(math.pi * min(step / max(total, 1), 1.0)) + 1) / 2


def view(batch: Mapping[str, Any], number: int, names: Sequence[str]) -> dict[str, Tensor]:
    """One view of a batch whose inputs are (B, views, ...)."""
    return {name: batch[name][:, number] for name in names}
