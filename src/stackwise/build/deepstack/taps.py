"""Stacks from several depths of a vision tower, each through a projector of its own.

The later use of the idea (Qwen3-VL, transformers' `qwen3_vl`): there is no second resolution. What
leaves some blocks of the tower becomes a stack, and stack k is added behind block k of the language
model, which is start 1 and interval 1 here.

    merger(h) = W2 GELU(W1 LN(4 neighbours of h, side by side))     of a tap, the norm after merging
    merger(h) = W2 GELU(W1 (4 neighbours of LN(h), side by side))   of the last block, before it
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stackwise.errors import KnobError, ModelError
from stackwise.stack import Stack


class PatchMerger(nn.Module):
    """merge x merge neighbouring patches to one token of another width.

    Args:
        width: numbers of a patch. out: numbers of a token.
        norm_after: norm what is merged, and not each patch before.
    """

    def __init__(self, width: int, out: int, merge: int = 2, *, norm_after: bool = False) -> None:
        super().__init__()
        wide = width * merge * merge
        self.merge, self.norm_after = merge, norm_after
        self.norm = nn.LayerNorm(wide if norm_after else width, eps=1e-6)
        self.widen = nn.Linear(wide, wide)
        self.act = nn.GELU()
        self.project = nn.Linear(wide, out)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, p, q, width) -> (B, p q / merge^2, out), row by row."""
        return self.of_blocks(in_blocks(grid, self.merge))

    def of_blocks(self, blocks: Tensor) -> Tensor:
        """(..., merge^2, width) -> (..., out)."""
        after = self.norm_after
        merged = self.norm(blocks.flatten(-2)) if after else self.norm(blocks).flatten(-2)
        found: Tensor = self.project(self.act(self.widen(merged)))
        return found


def in_blocks(grid: Tensor, merge: int) -> Tensor:
    """(B, p, q, C) -> (B, p q / merge^2, merge^2, C): neighbours side by side.

    Raises:
        KnobError: the grid does not divide.
    """
    rows, height, width, size = grid.shape
    if height % merge or width % merge:
        raise KnobError(f"{height} x {width} patches do not divide into squares of {merge}")
    parts = grid.reshape(rows, height // merge, merge, width // merge, merge, size)
    return parts.transpose(2, 3).reshape(rows, -1, merge * merge, size)


class DeepStackTap(nn.Module):
    """A merger for each tap: features of several depths as stacks.

    Args:
        taps: blocks of the tower after which the stream is taken, from 0.
    """

    def __init__(self, width: int, out: int, taps: Sequence[int], merge: int = 2) -> None:
        super().__init__()
        self.taps = list(taps)
        self.mergers = nn.ModuleList(PatchMerger(width, out, merge, norm_after=True) for _ in taps)

    def forward(self, grids: Sequence[Tensor]) -> Tensor:
        """As many (B, p, q, width) -> (K, B, l, out)."""
        return torch.stack([of(grid) for of, grid in zip(self.mergers, grids, strict=True)])


def check_taps(taps: Sequence[int], depth: int) -> None:
    """Every tap is a block of the tower.

    Raises:
        ModelError: one is not, and its merger would never learn.
    """
    for tap in taps:
        if not 0 <= tap < depth:
            raise ModelError(
                f"there is no block {tap} to tap; the tower has blocks 0 to {depth - 1}"
            )


def usual_taps(depth: int, count: int = 3) -> list[int]:
    """As 8, 16 and 24 lie among 27 blocks, in a tower of another depth."""
    return sorted({min(round((k + 1) * depth * 8 / 27), depth - 1) for k in range(count)})


def tapped(tower: nn.Module, taps: Sequence[int], **inputs: Tensor) -> tuple[object, list[Tensor]]:
    """What the tower gives, and the stream after each tap."""
    stack = Stack.of(tower)
    check_taps(taps, len(stack))
    with stack.capture() as stream:
        output = tower(**inputs)
    return output, [stream.hidden[tap + 1] for tap in taps]
