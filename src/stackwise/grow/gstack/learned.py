"""G_learn: the grown weights are a learned linear map of the old ones (LiGO).

In width each weight is mapped by matrices of its two spaces, shared by all blocks,

    W' = B_out W B_in^T        E' = E B_stream^T        mu' = B_stream mu

and in depth, for each kind of weight k, the blocks are mixed: W_i' = sum_j D^k[i, j] W_j. The B and
D are trained for a few steps on the loss of the grown model, the old weights frozen; then the
weights are written down and the model is an ordinary one. They begin as copies: B = [I; noise] and
D the one-hot rows of an order, so that depth alone begins as G_stack.

With shared key heads, what the output projection reads has more coordinates than the values have;
it gets a map of its own, which begins as the others do.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import TrainingError
from stackwise.grow.gstack.depth import stacked
from stackwise.grow.gstack.spaces import Space, axes_of, empty_like, spaces_of
from stackwise.stack import Stack
from stackwise.training.batches import ListBatches
from stackwise.training.loop import train
from stackwise.training.rules import Backprop


class LearnedGrowth(nn.Module):
    """The maps from a base model to a grown one.

    Args:
        order: a source block for each place of the grown model: where the mixing begins.
        width: of the grown stream; None keeps the base's.

    Attributes:
        target: the grown model, whose own weights are not used until `materialise`.
    """

    def __init__(
        self, base: Any, order: Sequence[int], width: int | None = None, *, seed: int = 0
    ) -> None:
        super().__init__()
        spaces = {} if width is None else spaces_of(base.config, width, seed=seed)
        grown = stacked(base, order)
        target = empty_like(grown, spaces, seed=seed) if spaces else grown
        self._spaces = spaces
        self._target = [target]  # in a list, so that its weights are none of this module's
        self._base = {name: weight.detach() for name, weight in base.named_parameters()}
        self._kinds, self._outside = _sorted_names(base, grown)
        target.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        self.maps = nn.ParameterDict(
            {name: _identity_and_noise(space, generator) for name, space in spaces.items()}
        )
        mixing = torch.zeros(len(order), len(Stack.of(base)))
        mixing[torch.arange(len(order)), list(order)] = 1
        self.mixing = nn.ParameterDict(
            {kind.replace(".", "/"): mixing.clone() for kind in self._kinds}
        )

    @property
    def target(self) -> nn.Module:
        """The grown model."""
        return self._target[0]

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move the frozen weights with the maps."""
        self._base = {name: fn(weight) for name, weight in self._base.items()}
        self.target._apply(fn)
        return super()._apply(fn, recurse)

    def weights(self) -> dict[str, Tensor]:
        """The weights of the grown model, as functions of the maps."""
        found = {name: self._wider(name, self._base[name]) for name in self._outside}
        for kind, (sources, places) in self._kinds.items():
            mixing = self.mixing[kind.replace(".", "/")]
            old = torch.stack([self._wider(name, self._base[name]) for name in sources])
            mixed = torch.tensordot(mixing.to(old.dtype), old, dims=1)
            found |= dict(zip(places, mixed.unbind(0), strict=True))
        return found

    def forward(self, **batch: Any) -> Any:
        """The output of the grown model on a batch."""
        return torch.func.functional_call(self.target, self.weights(), args=(), kwargs=batch)

    @torch.no_grad()
    def materialise(self) -> nn.Module:
        """The grown model with its weights written down: a plain one."""
        weights = self.weights()
        for name, parameter in self.target.named_parameters():
            parameter.copy_(weights[name])
            parameter.requires_grad_(True)
        return self.target

    def _wider(self, name: str, weight: Tensor) -> Tensor:
        if not self._spaces:
            return weight
        rows, columns = axes_of(name, weight)
        if rows is not None:
            weight = torch.tensordot(self.maps[rows].to(weight.dtype), weight, dims=1)
        if columns is not None:
            weight = weight @ self.maps[columns].to(weight.dtype).T
        return weight


def learned(
    model: Any,
    batches: Iterable[Any],
    order: Sequence[int],
    width: int | None = None,
    *,
    steps: int = 100,
    lr: float = 7e-5,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
) -> nn.Module:
    """Learn the maps on batches of text for which the model returns a loss, and apply them.

    Raises:
        TrainingError: there is no batch to learn from.
    """
    given = list(batches)
    if not given and steps:
        raise TrainingError('operator "learned" needs data to learn the growth on')
    growth = LearnedGrowth(model, order, width, seed=seed)
    if steps:
        cycle = [given[step % len(given)] for step in range(steps)]
        rule = Backprop(lambda maps, batch: maps(**batch).loss, lr=lr, warmup=0.5, grad_clip=None)
        train(growth, rule, ListBatches(cycle, shuffle=False), max_epochs=1, seed=seed,
              device=device, precision=precision, name="learn the growth")  # fmt: skip
    place = next(model.parameters()).device
    return growth.to(place).materialise().train(model.training)


def _identity_and_noise(space: Space, generator: torch.Generator) -> Tensor:
    """[I; N(0, 1/D)]: (new, old)."""
    made = torch.randn(space.new, space.old, generator=generator) / space.new**0.5
    made[: space.old] = torch.eye(space.old)
    return made


def _sorted_names(
    base: nn.Module, grown: nn.Module
) -> tuple[dict[str, tuple[list[str], list[str]]], list[str]]:
    """Kind of weight -> its names in the base's blocks and in the grown model's; and the names of
    the weights outside of the blocks.
    """
    old, new = Stack.of(base), Stack.of(grown)
    kinds = {
        kind: (
            [f"{block}.{kind}" for block in old.names],
            [f"{block}.{kind}" for block in new.names],
        )
        for kind, _ in old.blocks[0].named_parameters()
    }
    inside = {name for sources, _ in kinds.values() for name in sources}
    return kinds, [name for name, _ in base.named_parameters() if name not in inside]
