"""Operations on rows of numbers, for tables.

linear     h <- ReLU(h + BN(W h))
gated      h <- ReLU(h + BN(V h * sigmoid(U h)))
product    h <- ReLU(h + BN(h * W h))
skip       h
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from stackwise.errors import KnobError
from stackwise.layers.one_hot import one_hot
from stackwise.train.bossnas.spaces.choice import Choice
from stackwise.train.bossnas.spaces.space import Space

NAMES = ("linear", "gated", "product", "skip")


class RowSpace(Space):
    """Four operations on a stream of numbers.

    Args:
        n_numeric, cardinalities: of the table's features. width: numbers of the stream.
        blocks: parts that are searched one after another. layers: of each.
    """

    kind: ClassVar[str] = "rows"
    reads: ClassVar[str] = "rows"

    def __init__(
        self, *, n_numeric: int, cardinalities: Sequence[int], width: int = 64, blocks: int = 2,
        layers: int = 2,
    ) -> None:  # fmt: skip
        if width < 1 or blocks < 1 or layers < 1:
            raise KnobError(f"width, blocks and layers are at least 1: {width}, {blocks}, {layers}")
        self.arguments = {
            "n_numeric": n_numeric, "cardinalities": list(cardinalities), "width": width,
            "blocks": blocks, "layers": layers,
        }  # fmt: skip
        self.n_numeric, self.cardinalities, self.width = n_numeric, list(cardinalities), width
        self.depths = (layers,) * blocks

    def operations(self, block: int, layer: int) -> list[str]:
        """The four."""
        return list(NAMES)

    def stem(self) -> nn.Module:
        """A linear layer of numbers and one-hot categories."""
        return RowStem(self.n_numeric, self.cardinalities, self.width)

    def super_layer(self, block: int, layer: int) -> nn.Module:
        """All four."""
        return Choice([self.layer(block, layer, 0, choice) for choice in range(len(NAMES))])

    def layer(self, block: int, layer: int, state: int, choice: int) -> nn.Module:
        """One of them."""
        return RowOperation(NAMES[choice], self.width)

    def channels(self, block: int, state: int) -> int:
        """The width."""
        return self.width

    def example(self) -> dict[str, Tensor]:
        """One row of zeros."""
        return {
            "numeric": torch.zeros(1, self.n_numeric),
            "categorical": torch.zeros(1, len(self.cardinalities), dtype=torch.int64),
        }


class RowStem(nn.Module):
    """(B, n_numeric) and (B, n_categorical) -> (B, width)."""

    def __init__(self, n_numeric: int, cardinalities: Sequence[int], width: int) -> None:
        super().__init__()
        self.cardinalities = list(cardinalities)
        self.body = nn.Sequential(
            nn.Linear(n_numeric + sum(cardinalities), width), nn.BatchNorm1d(width), nn.ReLU()
        )

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """A linear layer over all."""
        x = torch.cat([numeric, one_hot(categorical, self.cardinalities)], 1)
        output: Tensor = self.body(x)
        return output


class RowOperation(nn.Module):
    """(B, width) -> (B, width)."""

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        self.name = name
        count = {"linear": width, "gated": 2 * width, "product": width, "skip": 0}[name]
        self.linear = nn.Linear(width, count, bias=False) if count else nn.Identity()
        self.norm = nn.BatchNorm1d(width) if count else nn.Identity()

    def forward(self, h: Tensor) -> Tensor:
        """The operation beside a skip."""
        if self.name == "skip":
            return h
        found: Tensor = self.linear(h)
        if self.name == "gated":
            value, gate = found.chunk(2, 1)
            found = value * gate.sigmoid()
        elif self.name == "product":
            found = h * found
        output: Tensor = (h + self.norm(found)).relu()
        return output
