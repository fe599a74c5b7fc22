"""Attributes as vectors: a row of F attributes, the target among them, becomes (F, e).

    z_j  = Lin_j([value_j or one-hot_j, masked_j]) + kind[is category j] + position[j]
    E(x) = [P_1(z_1), ..., P_F(z_F)]     P_j: GELU, dropout, LayerNorm, Linear, its own weights

A masked attribute has no value and the flag 1; a missing one has no value and the flag 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.layers.ensemble import EnsembleLinear
from stackwise.layers.one_hot import hot_places

EPS = 1e-12


class AttributeEmbedding(nn.Module):
    """Values and codes -> (B, F, e): numbers first, then categories.

    Args:
        n_numeric: numbers. cardinalities: codes of each category; the code beyond them (and a
            number that is NaN) is missing.
        e: numbers of an embedded attribute.
    """

    def __init__(
        self, n_numeric: int, cardinalities: Sequence[int], e: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.cardinalities = list(cardinalities)
        self.n_numeric, self.attributes = n_numeric, n_numeric + len(cardinalities)
        sizes = [1] * n_numeric + list(cardinalities)
        self.values = nn.Parameter(torch.empty(n_numeric, e)) if n_numeric else None
        self.codes = nn.Parameter(torch.empty(sum(cardinalities), e)) if cardinalities else None
        self.flag = nn.Parameter(torch.empty(self.attributes, e))
        self.bias = nn.Parameter(torch.empty(self.attributes, e))
        with torch.no_grad():  # torch's initial values of Lin_j: s_j + 1 -> e
            for place, size in enumerate(sizes):
                bound = (size + 1) ** -0.5
                for row in (self.flag[place], self.bias[place]):
                    row.uniform_(-bound, bound)
            if self.values is not None:
                self.values.uniform_(-(2**-0.5), 2**-0.5)
            if self.codes is not None:
                for rows, size in zip(self.codes.split(list(cardinalities)), cardinalities,
                                      strict=True):  # fmt: skip
                    rows.uniform_(-((size + 1) ** -0.5), (size + 1) ** -0.5)
        self.kind = nn.Embedding(2, e)
        self.position = nn.Parameter(torch.randn(self.attributes, e))
        self.scale = nn.Parameter(torch.ones(self.attributes, e))
        self.shift = nn.Parameter(torch.zeros(self.attributes, e))
        self.project = EnsembleLinear(e, e, k=self.attributes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, numeric: Tensor, categorical: Tensor, masked: Tensor) -> Tensor:
        """(B, n_numeric), (B, n_categorical) and (B, F) bool -> (B, F, e)."""
        z = self.bias + masked[..., None] * self.flag
        parts = []
        if self.values is not None:
            shown = masked[:, : self.n_numeric].logical_not() & ~numeric.isnan()
            parts.append(torch.where(shown, numeric.nan_to_num(), 0.0)[..., None] * self.values)
        if self.codes is not None:
            places = hot_places(categorical, self.cardinalities)
            places = places.masked_fill(masked[:, self.n_numeric :], len(self.codes))
            table = functional.pad(self.codes, (0, 0, 0, 1))  # a last row of zeros: no value
            parts.append(functional.embedding(places, table))
        kinds = (torch.arange(self.attributes, device=z.device) >= self.n_numeric).long()
        z = z + torch.cat(parts, 1) + self.kind(kinds) + self.position
        x = functional.layer_norm(self.dropout(functional.gelu(z)), z.shape[-1:], eps=EPS)
        return self.project(x * self.scale + self.shift)
