"""Blocks one after the other, the whole sequence at once or as it comes, and what they cost.

A causal trunk goes on from moment to moment: `step` gives what `forward` gives, with a state that
does not grow: of each convolution what it looks back on, and the keys and values of one chunk.

    memory of a block   d (r - 1) + c (z + v) numbers        whatever the length
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.build.tcnca.block import Block
from stackwise.build.tcnca.sizes import Sizes
from stackwise.errors import ModelError
from stackwise.layers.dilated_conv import receptive_field


class Trunk(nn.Module):
    """(B, L, dim) -> (B, L, dim).

    Args:
        sizes: of each block. blocks: how many. plain_norm: the last norm has no scale of its own.
    """

    def __init__(self, sizes: Sizes, blocks: int, *, plain_norm: bool = False) -> None:
        super().__init__()
        if blocks < 1:
            raise ModelError(f"blocks must be at least 1, got {blocks}")
        self.sizes = sizes
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(blocks))
        last = nn.LayerNorm(sizes.dim, elementwise_affine=False)
        self.norm = (last if plain_norm else sizes.norm_module()) if sizes.norm_first else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, dim); `mask` (B, L) bool is False for padding."""
        if mask is not None:
            x = x * mask[..., None].to(x.dtype)
        for block in self.blocks:
            x = block(x, mask)
        return x if self.norm is None else self.norm(x)

    @property
    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def start(self, batch: int = 1) -> dict[str, Any]:
        """The state before the first moment.

        Raises:
            ModelError: it looks ahead.
        """
        if not self.sizes.causal:
            raise ModelError(
                f"a network that is {self.sizes.direction} cannot go on from moment to moment; "
                "take direction='causal'"
            )
        return {"place": 0, "blocks": [block.mixing.start(batch) for block in self._blocks]}

    def step(self, x: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Go on: (B, T, dim) further moments -> their outputs (B, T, dim), and the state behind."""
        place, states, found = state["place"], state["blocks"], []
        for piece in pieces(x, place, self.sizes.chunk):
            after = []
            for block, before in zip(self._blocks, states, strict=True):
                piece, its = block.step(piece, before)
                after.append(its)
            states = after
            found.append(piece if self.norm is None else self.norm(piece))
        return torch.cat(found, 1), {"place": place + x.shape[1], "blocks": states}

    def multiply_adds(self, length: int) -> int:
        """Multiply-adds of the blocks for one sequence: linear in the length, as a multiple of the
        chunk.
        """
        own = self.sizes
        chunk = min(own.chunk, length)
        padded = -(-length // chunk) * chunk
        total = 0
        for block in self.blocks:
            for module in block.modules():
                if isinstance(module, nn.Linear):
                    total += length * module.weight.numel()
        operator = {
            "tcn": own.dim * own.kernel_size * own.depth * own.convs_per_block,
            "ema": own.dim * own.averages * 2,
        }.get(str(own.operator), 0)
        twice = own.direction == "two-way" or (own.operator == "ema" and not own.causal)
        attended = chunk * (own.z_dim + own.v_dim) * own.attention
        return total + len(self.blocks) * (length * operator * (1 + twice) + padded * attended)


def pieces(x: Tensor, place: int, chunk: int) -> Iterator[Tensor]:
    """(B, T, dim) in pieces that each end in the chunk in which they begin."""
    start = 0
    while start < x.shape[1]:
        room = chunk - (place + start) % chunk
        yield x[:, start : start + room]
        start += room


def reach(sizes: Sizes, blocks: int) -> int | None:
    """Moments that an output sees by the convolutions of all blocks; None with an EMA, which has no
    end.
    """
    if sizes.operator != "tcn":
        return None if sizes.operator == "ema" else 1
    one = receptive_field(
        sizes.kernel_size, sizes.dilation_factor, sizes.depth, sizes.convs_per_block
    )
    return 1 + blocks * (one - 1)


def cautions(sizes: Sizes) -> list[str]:
    """What a user should know of these sizes: holes between taps, chunks that do not meet."""
    found = []
    if sizes.operator == "tcn":
        one = receptive_field(
            sizes.kernel_size, sizes.dilation_factor, sizes.depth, sizes.convs_per_block
        )
        if one <= sizes.chunk:
            found.append(
                f"receptive field {one} does not reach past the chunk of {sizes.chunk}: chunks "
                "hardly exchange information"
            )
        if sizes.dilation_factor > sizes.kernel_size:
            found.append(
                f"dilation_factor {sizes.dilation_factor} is larger than kernel_size "
                f"{sizes.kernel_size}: some moments lie between all taps and are never read"
            )
    elif sizes.operator is None:
        found.append("without an operator chunks cannot exchange information")
    return found
