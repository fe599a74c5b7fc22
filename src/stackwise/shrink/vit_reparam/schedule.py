"""When the branches of a model are pulled together.

lambda stays 0 while the branches find something of their own, rises, and is exactly 1 for the rest
of training, in which the function is already that of the merged model:

    p = (share - start) / (end - start), held within [0, 1]
    linear  lambda = p;    cosine  lambda = (1 - cos(pi p)) / 2;    step  lambda = 1 where p > 0

The paper's schedule is not public: these shapes and shares are ours.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from stackwise.errors import KnobError
from stackwise.shrink.vit_reparam.branches import branched_blocks

Shape = Literal["linear", "cosine", "step"]
Order = Literal["together", "shallow-first", "deep-first", "ffn-first"]


@dataclass(frozen=True)
class JoinSchedule:
    """lambda of every sublayer at every step.

    Attributes:
        start, end: shares of the run between which lambda rises.
        shape: `linear`, `cosine`, or `step`: all at once, for comparison.
        order: `together`, or one part after another between start and end: layers from the first
            (`shallow-first`) or the last (`deep-first`), or all FFNs before all attentions.
    """

    start: float = 0.1
    end: float = 0.7
    shape: Shape = "linear"
    order: Order = "together"

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise KnobError(
                f"start must come before end, both within 0 and 1, got {self.start:g}, {self.end:g}"
            )
        if self.shape not in get_args(Shape):
            raise KnobError(f"shape must be one of {get_args(Shape)}, got {self.shape!r}")
        if self.order not in get_args(Order):
            raise KnobError(f"order must be one of {get_args(Order)}, got {self.order!r}")

    def at(self, step: int, total: int, depth: int) -> list[tuple[float, float]]:
        """(lambda of attention, lambda of the FFN) of each of `depth` layers at `step`.

        Args:
            step: 0 .. total - 1; the last is share 1, so that a run always ends at exactly 1.
        """
        return self.at_share(step / (total - 1) if total > 1 else 1.0, depth)

    def at_share(self, share: float, depth: int) -> list[tuple[float, float]]:
        """The same where a share of the run is over, 0 to 1."""
        if self.order == "ffn-first":
            middle = (self.start + self.end) / 2
            attention = self._between(share, middle, self.end)
            return [(attention, self._between(share, self.start, middle))] * depth
        both = []
        for layer in range(depth):
            first, last = self.start, self.end
            if self.order != "together":
                place = layer if self.order == "shallow-first" else depth - 1 - layer
                length = (self.end - self.start) / depth
                first = self.start + place * length
                last = self.end if place == depth - 1 else first + length
            lam = self._between(share, first, last)
            both.append((lam, lam))
        return both

    def _between(self, share: float, first: float, last: float) -> float:
        if share >= last:
            return 1.0
        p = max(0.0, (share - first) / (last - first))
        if self.shape == "step":
            return float(p > 0)
        return p if self.shape == "linear" else (1 - math.cos(math.pi * p)) / 2


def set_join(model: nn.Module, lam: float | list[tuple[float, float]]) -> None:
    """Set lambda of every branched block of a model, or (attention, FFN) of each of them."""
    blocks = branched_blocks(model)
    pairs = lam if isinstance(lam, list) else [(lam, lam)] * len(blocks)
    if len(pairs) != len(blocks):
        raise KnobError(f"the model has {len(blocks)} branched blocks, got {len(pairs)} lambdas")
    if any(not 0 <= value <= 1 for pair in pairs for value in pair):
        raise KnobError(f"lambda must lie within 0 and 1, got {lam}")
    for block, (attention, ffn) in zip(blocks, pairs, strict=True):
        block.attention.lam.fill_(attention)
        block.ffn.lam.fill_(ffn)
