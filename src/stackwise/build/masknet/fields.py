"""Fields: every column of a table as an embedding of k numbers, and the norm of each of them.

All categories lie in one matrix, a stretch of rows for each field, so that a batch of rows is a
single lookup however many fields there are.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.layers.numeric_embeddings import LinearEmbedding, PiecewiseLinearEmbedding

NumberEmbedding = Literal["linear", "product", "piecewise"]
SPREAD = 0.01
"""Standard deviation of the first embeddings."""


class FieldEmbedding(nn.Module):
    """(B, n_numeric) float32 and (B, n_categorical) int64 -> (B, f, k): numbers, then categories.

    Args:
        cardinalities: codes of each categorical column. The code beyond them is a value that
            training did not see; its embedding begins at zero.
        k: numbers of an embedding.
        slots: how many neighbouring categorical columns make a field: 1, or more where the field
            holds several values, whose embeddings are averaged. Such columns share one stretch
            of the matrix, and their code beyond the others means that there is no value.
        number_embedding: `linear` w x + c, `product` w x, or `piecewise` linear in its bins.
        bins: edges for `piecewise`, from `compute_bins`.
    """

    starts: Tensor
    sizes: Tensor

    def __init__(
        self,
        n_numeric: int,
        cardinalities: Sequence[int],
        k: int,
        *,
        slots: Sequence[int] | None = None,
        number_embedding: NumberEmbedding = "linear",
        bins: list[list[float]] | None = None,
    ) -> None:
        super().__init__()
        slots = [1] * len(cardinalities) if slots is None else list(slots)
        if n_numeric + len(cardinalities) == 0:
            raise ModelError("a network needs at least one field, got none")
        if sum(slots) != len(cardinalities) or min(slots, default=1) < 1:
            raise ModelError(
                f"slots must be positive and sum to {len(cardinalities)} columns, got {slots}"
            )
        self.n_numeric, self.fields = n_numeric, n_numeric + len(slots)
        starts, rows = [], 0
        self.several: list[tuple[int, int]] = []
        for count, end in zip(slots, itertools.accumulate(slots), strict=True):
            starts += [rows] * count
            rows += cardinalities[end - 1] + 1
            if count > 1:
                self.several.append((end - count, end))
        for name, values in (("starts", starts), ("sizes", list(cardinalities))):
            tensor = torch.tensor(values, dtype=torch.int64)
            self.register_buffer(name, tensor, persistent=False)
        self.weight = nn.Parameter(torch.empty(rows, k)) if rows else None
        if self.weight is not None:
            nn.init.normal_(self.weight, std=SPREAD)
            with torch.no_grad():
                self.weight[self.starts + self.sizes] = 0.0
        self.numbers = _number_embedding(number_embedding, n_numeric, k, bins)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """(B, n_numeric) and (B, n_categorical) -> (B, f, k)."""
        self._check(numeric, categorical)
        parts = [] if self.numbers is None else [self.numbers(numeric)]
        if self.weight is not None:
            found = _rows(self.weight, categorical + self.starts)
            parts += self._averaged(found, categorical) if self.several else [found]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _averaged(self, found: Tensor, categorical: Tensor) -> list[Tensor]:
        """The fields of `found`, (B, n_categorical, k), those of several values averaged."""
        parts, at = [], 0
        for start, end in self.several:
            inside, codes = found[:, start:end], categorical[:, start:end]
            known = (codes < self.sizes[start]).to(found.dtype)[..., None]
            count = known.sum(1, keepdim=True)
            mean = (inside * known).sum(1, keepdim=True) / count.clamp(min=1.0)
            # a row without a value has the code of the unknown in every slot
            parts += [found[:, at:start], torch.where(count > 0, mean, inside[:, :1])]
            at = end
        return [*parts, found[:, at:]]

    def _check(self, numeric: Tensor, categorical: Tensor) -> None:
        """Refuse other columns and codes; without it a code would reach into the next field."""
        for name, given, wanted in (
            ("numeric", numeric, self.n_numeric),
            ("categorical", categorical, len(self.sizes)),
        ):
            if given.shape[-1] != wanted:
                raise ModelError(
                    f"{name} has {given.shape[-1]} columns, the model was built for {wanted}"
                )
        # on a GPU, looking at the codes would stop the stream at each step
        if torch.compiler.is_compiling() or categorical.device.type != "cpu":
            return
        strange = (categorical < 0) | (categorical > self.sizes)
        if bool(strange.any()):
            row, column = strange.nonzero()[0].tolist()
            raise ModelError(
                f"categorical column {column} has the code {int(categorical[row, column])}; its "
                f"codes are 0 to {int(self.sizes[column])}, the last one for a value never seen"
            )


def _rows(weight: Tensor, places: Tensor) -> Tensor:
    """Rows of a matrix: (rows, k) and (B, n) -> (B, n, k)."""
    if places.device.type != "cpu":
        return functional.embedding(places, weight)
    # on a CPU the gradient of index_select takes half the time of that of embedding
    return weight.index_select(0, places.flatten()).unflatten(0, places.shape)


def _number_embedding(
    kind: NumberEmbedding, count: int, k: int, bins: list[list[float]] | None
) -> nn.Module | None:
    if count == 0:
        return None
    if kind == "piecewise":
        if bins is None or len(bins) != count:
            found = 0 if bins is None else len(bins)
            raise ModelError(f"piecewise embeddings need bins for {count} columns, got {found}")
        return PiecewiseLinearEmbedding(bins, k)
    made = LinearEmbedding(count, k) if kind == "linear" else ProductEmbedding(count, k)
    for parameter in made.parameters():  # as small as those of the categories beside them
        nn.init.normal_(parameter, std=SPREAD)
    return made


class ProductEmbedding(nn.Module):
    """w_j x: (..., F) -> (..., F, k)."""

    def __init__(self, n_features: int, k: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_features, k))

    def forward(self, x: Tensor) -> Tensor:
        return x[..., None] * self.weight


class FieldNorm(nn.Module):
    """A layer norm for each field alone: LN_EMB(V) = [LN_1(e_1), ..., LN_f(e_f)], on (B, f, k)."""

    def __init__(self, fields: int, k: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(fields, k))
        self.bias = nn.Parameter(torch.zeros(fields, k))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, functional.layer_norm(x, x.shape[-1:]), self.weight)
