"""Linear heads on the prefixes of an embedding.

head = MatryoshkaHead(64, 100, dims=(8, 16, 32, 64))        MRL: four layers
head = MatryoshkaHead(64, 100, tied=True)                   MRL-E: one, of which columns are cut
head(z)                       (B, 100) logits of the whole embedding
head(z, dim=8)                of its first 8 numbers
head.nested(z)                {8: (B, 100), 16: ..., 32: ..., 64: ...}
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import DataError
from stackwise.layers.arguments import keeps_arguments
from stackwise.train.matryoshka.sizes import checked_sizes


def tied_logits(
    embedding: Tensor, weight: Tensor, bias: Tensor | None, dims: Sequence[int]
) -> dict[int, Tensor]:
    """The logits of each size under one layer: z[:, :m] W[:, :m]' + b.

    Each is the one of the size before and the product of the columns between, so that all sizes
    take the d columns once and not the sum of the sizes. Any matrix serves: of a masked language
    model it is the tied vocabulary's.

    Args:
        embedding: (..., d). weight: (C, d). bias: (C,) or None. dims: rising sizes.

    Returns:
        (..., C) by size.
    """
    found: dict[int, Tensor] = {}
    start = 0
    for dim in dims:
        part = embedding[..., start:dim]
        columns = weight[:, start:dim]
        if found:
            found[dim] = found[start] + functional.linear(part, columns)
        else:
            found[dim] = functional.linear(part, columns, bias)
        start = dim
    return found


@keeps_arguments
class MatryoshkaHead(nn.Module):
    """Logits of every nested size; stands where a linear last layer stood.

    Args:
        in_features: d. n_classes: C.
        dims: rising sizes that end at d; None takes `halvings(d)`.
        tied: MRL-E: one layer, cut; its heads cost C d numbers in place of C times the sum of dims.
        bias: of each layer, or the one that all sizes share.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        *,
        dims: Sequence[int] | None = None,
        tied: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.dims = checked_sizes(dims, in_features)
        self.tied = tied
        sizes = self.dims[-1:] if tied else self.dims
        self.layers = nn.ModuleList(nn.Linear(m, n_classes, bias=bias) for m in sizes)

    def forward(self, embedding: Tensor, dim: int | None = None) -> Tensor:
        """(B, d), or as few as `dim` numbers -> (B, C) logits of the size `dim`, by default d.

        Raises:
            DataError: there is no head of that size.
        """
        dim = self.dims[-1] if dim is None else self.checked(dim)
        if self.tied:
            layer: Any = self.layers[0]
            return functional.linear(embedding[..., :dim], layer.weight[:, :dim], layer.bias)
        output: Tensor = self.layers[self.dims.index(dim)](embedding[..., :dim])
        return output

    def nested(self, embedding: Tensor) -> dict[int, Tensor]:
        """(B, d) -> (B, C) logits by size, rising."""
        if self.tied:
            layer: Any = self.layers[0]
            return tied_logits(embedding, layer.weight, layer.bias, self.dims)
        return {
            dim: layer(embedding[..., :dim])
            for dim, layer in zip(self.dims, self.layers, strict=True)
        }

    def all_sizes(self, embedding: Tensor) -> Tensor:
        """(B, d) -> (B, len(dims), C), each size computed by itself as `forward` does."""
        return torch.stack([self(embedding, dim) for dim in self.dims], 1)

    def checked(self, dim: int) -> int:
        """A size that has a head: one of `dims`, or where heads are tied any up to d.

        Raises:
            DataError: it has none.
        """
        if dim in self.dims or (self.tied and 1 <= dim <= self.dims[-1]):
            return int(dim)
        raise DataError(f"no head for dim {dim}; trained dims are {', '.join(map(str, self.dims))}")
