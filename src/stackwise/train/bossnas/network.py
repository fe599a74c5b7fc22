"""The networks that come of a search, and what they cost.

    stem, the layers of an architecture in `blocks`, what a space ends with, the mean over places, a
    linear head

A network is kept by its space's `spec` and its architecture, and made from them again.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from stackwise.layers.arguments import keeps_arguments
from stackwise.learning.measuring import multiply_adds
from stackwise.train.bossnas.spaces.known import space_of
from stackwise.train.bossnas.spaces.space import Space
from stackwise.train.bossnas.spaces.super_block import pooled


class ChosenNetwork(nn.Module):
    """What all chosen networks share.

    Args:
        space: `Space.spec`. architecture: a list of numbers a block. n_outputs: of the head.
    """

    arguments: dict[str, Any]

    def __init__(
        self, *, space: dict[str, Any], architecture: Sequence[Sequence[int]], n_outputs: int
    ) -> None:
        super().__init__()
        made = space_of(space)
        states = made.states(architecture)
        self.stem = made.stem()
        self.blocks = nn.ModuleList()
        for block, path in enumerate(architecture):
            self.blocks.extend(made.layers(block, states[block], path))
        self.final, channels = made.final(states[-1])
        self.head = nn.Linear(channels, n_outputs)

    def features(self, **inputs: Tensor) -> Tensor:
        """(B, C): what the head reads."""
        h = self.stem(**inputs)
        for block in self.blocks:
            h = block(h)
        return pooled(self.final(h))


@keeps_arguments
class ChosenOnPictures(ChosenNetwork):
    """A chosen network on pictures."""

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) float32 -> (B, n_outputs)."""
        output: Tensor = self.head(self.features(pixels=pixels))
        return output


@keeps_arguments
class ChosenOnRows(ChosenNetwork):
    """A chosen network on rows of a table."""

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """(B, n_numeric) float32 and (B, n_categorical) int64 -> (B, n_outputs)."""
        output: Tensor = self.head(self.features(numeric=numeric, categorical=categorical))
        return output


@keeps_arguments
class ChosenOnSeries(ChosenNetwork):
    """A chosen network on series."""

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """(B, C, L) float32 and (B,) int64 moments -> (B, n_outputs)."""
        output: Tensor = self.head(self.features(values=values, lengths=lengths))
        return output


NETWORK_OF: dict[str, Any] = {
    "pixels": ChosenOnPictures, "rows": ChosenOnRows, "series": ChosenOnSeries,
}  # fmt: skip


def build(space: Space, architecture: Iterable[Iterable[int]], n_outputs: int) -> nn.Module:
    """A fresh network of an architecture, with a linear head.

    Raises:
        KnobError: it is none of this space.
    """
    made = space.checked(architecture)
    own = space.own_network(made, n_outputs)
    if own is not None:
        return own
    network: nn.Module = NETWORK_OF[space.reads](
        space=space.spec, architecture=made, n_outputs=n_outputs
    )
    return network


def costs(
    space: Space, architecture: Iterable[Iterable[int]], n_outputs: int = 1
) -> tuple[int, int]:
    """Parameters of its network, and its multiply-adds on one sample."""
    network = build(space, architecture, n_outputs)
    return sum(p.numel() for p in network.parameters()), multiply_adds(network, **space.example())
