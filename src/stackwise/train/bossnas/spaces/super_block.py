"""A block with the weights of all its operations, called with a path."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from stackwise.train.bossnas.spaces.space import Space


def pooled(h: Tensor) -> Tensor:
    """(B, C, ...) -> (B, C), the mean over places."""
    return h.flatten(2).mean(2) if h.ndim > 2 else h


class SuperBlock(nn.Module):
    """The layers of a block, with the weights of all their operations."""

    def __init__(self, space: Space, block: int) -> None:
        super().__init__()
        self.space, self.block = space, block
        self.layers = nn.ModuleList(
            space.super_layer(block, layer) for layer in range(space.depths[block])
        )

    def forward(self, h: Tensor, path: Sequence[int], state: int) -> tuple[Tensor, int]:
        """What a path makes of its input, and the state that it ends in."""
        for number, (layer, choice) in enumerate(zip(self.layers, path, strict=True)):
            h = layer(h, choice, state)
            state = self.space.after(self.block, number, state, choice) or 0
        return h, state

    def cut(self, path: Sequence[int], state: int) -> list[nn.Module]:
        """The layers of a path alone, with copies of their weights."""
        found = []
        for number, (layer, choice) in enumerate(zip(self.layers, path, strict=True)):
            one: Any = layer
            found.append(one.cut(choice, state))
            state = self.space.after(self.block, number, state, choice) or 0
        return found
