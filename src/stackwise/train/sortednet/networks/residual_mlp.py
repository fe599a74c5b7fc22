"""A residual MLP: h <- h + W2 GELU(W1 norm(h)), on rows of a table or pixels of a picture."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.one_hot import one_hot
from stackwise.train.sortednet.networks.width_depth_hidden import WidthDepthHidden
from stackwise.train.sortednet.truncation import Place, Units

WIDTH, FFN = Units("width"), Units("ffn")


class ResidualMLPBlock(nn.Module):
    """(B, width) -> (B, width), `hidden` units between."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        output: Tensor = h + self.dropout(self.second(functional.gelu(self.first(self.norm(h)))))
        return output


class ResidualMLP(WidthDepthHidden, nn.Module):
    """What the network of rows and that of pictures share.

    Args:
        inputs: numbers that go in. n_outputs: that come out.
        width: of the stream. depth: blocks. hidden: units of a block.
        dropout: probability that what a block adds is dropped, in training.
    """

    def __init__(
        self, inputs: int, n_outputs: int, width: int, depth: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(ResidualMLPBlock(width, hidden, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_outputs)

    def through(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, n_outputs)."""
        h = self.stem(x)
        for block in self.blocks:
            h = block(h)
        output: Tensor = self.head(self.norm(h))
        return output

    def places(self) -> dict[str, Place]:
        """What each module's outputs and inputs are units of."""
        found = {"stem": Place(WIDTH), "norm": Place(WIDTH), "head": Place(None, WIDTH)}
        for place in range(self.arguments["depth"]):
            found |= {
                f"blocks.{place}.norm": Place(WIDTH),
                f"blocks.{place}.first": Place(FFN, WIDTH),
                f"blocks.{place}.second": Place(WIDTH, FFN),
            }
        return found


@keeps_arguments
class RowMLP(ResidualMLP):
    """A residual MLP on numbers and one-hot categories."""

    def __init__(
        self, *, n_numeric: int, cardinalities: list[int], n_outputs: int, width: int = 128,
        depth: int = 4, hidden: int = 128, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        inputs = n_numeric + sum(cardinalities)
        super().__init__(inputs, n_outputs, width, depth, hidden, dropout)
        self.cardinalities = list(cardinalities)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """(B, n_numeric) float32 and (B, n_categorical) int64 -> (B, n_outputs)."""
        return self.through(torch.cat([numeric, one_hot(categorical, self.cardinalities)], dim=1))


@keeps_arguments
class PictureMLP(ResidualMLP):
    """A residual MLP on all pixels of a picture."""

    def __init__(
        self, *, shape: Sequence[int], n_outputs: int, width: int = 128, depth: int = 4,
        hidden: int = 128, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(math.prod(shape), n_outputs, width, depth, hidden, dropout)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, n_outputs)."""
        return self.through(pixels.flatten(1))
