"""The Hopular network: blocks that look up similar training rows and related attributes.

Every block sees the whole training set again and the row's own attributes again:

    u  = LN_s(xi),      xi <- u + Hop_s(u, LN_s(M))           over the n stored rows
    v  = LN_f(xi),      xi <- v + Hop_f(v, LN_f(E(x)))        over the F attributes of the row

The residual adds to the normalised input, as in the authors' code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.build.hopular.embedding import EPS, AttributeEmbedding
from stackwise.errors import ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.hopfield import HopfieldAssociation, Lookup

Stored = tuple[Tensor, Tensor]


class Block(nn.Module):
    """One refinement of xi (B, F, e) by the stored rows and by the row's own attributes."""

    def __init__(
        self, attributes: int, e: int, heads: int, *, scaling: float, dropout: float,
        samples: bool, features: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        d = attributes * e
        given: dict[str, Any] = {"scaling": scaling, "dropout": dropout}
        self.sample_norm = nn.LayerNorm(d)
        self.sample_lookup = HopfieldAssociation(d, heads, **given) if samples else None
        self.feature_norm = nn.LayerNorm(e)
        self.feature_lookup = HopfieldAssociation(e, heads, **given) if features else None

    def stored(self, memory: Tensor) -> Stored | None:
        """Keys and values of the embedded memory (n, F e)."""
        if self.sample_lookup is None:
            return None
        return self.sample_lookup.stored(self.sample_norm(memory))

    def weights(self, xi: Tensor, stored: Stored | None) -> Tensor | None:
        """(B, n) how much each row takes from each stored row, mean over heads."""
        if self.sample_lookup is None or stored is None:
            return None
        return self.sample_lookup.weights(self.sample_norm(xi.flatten(1)), stored).mean(0)

    def forward(
        self, xi: Tensor, embedded: Tensor, stored: Stored | None, own: Tensor | None,
        how: Lookup, neighbours: int,
    ) -> Tensor:  # fmt: skip
        """xi and the row's own embedding E(x), both (B, F, e) -> (B, F, e)."""
        if self.sample_lookup is not None and stored is not None:
            u = self.sample_norm(xi.flatten(1))
            found = self.sample_lookup(u, stored, own=own, how=how, neighbours=neighbours)
            xi = (u + found).view_as(xi)
        if self.feature_lookup is not None:
            v = self.feature_norm(xi)
            xi = v + self.feature_lookup(v, self.feature_lookup.stored(self.feature_norm(embedded)))
        return xi


@dataclass
class Rows:
    """Rows as the network takes them: `numeric` (B, n_numeric) with NaN where missing,
    `categorical` (B, n_categorical), `target` (B,), and what is masked, (B, F) bool."""

    numeric: Tensor
    categorical: Tensor
    target: Tensor
    masked: Tensor


@keeps_arguments
class Hopular(nn.Module):
    """(B, n_numeric) float32 and (B, n_categorical) int64 -> (B, n_outputs) for the target.

    The target is one more attribute, the last category (or, for a number, the last number). The
    training rows are part of the network's state: `remember` stores them, and a kept model holds
    them.

    Args:
        cardinalities: codes of each category; the code beyond them is missing.
        n_outputs: classes of the target, or 1 for a number.
        by_class: whether the target is a class.
        memory_rows: stored rows.
        feature_dim: e. heads: H of both lookups. blocks: L.
        scaling: of beta; larger lookups look at fewer rows.
        dropout: of embedded attributes, of lookups' weights, and before the answer.
        memory: how stored rows are looked up; `neighbours` of `nearest`.
        samples, features: without one of the two lookups, for comparison.
    """

    memory_numeric: Tensor
    memory_categorical: Tensor
    memory_target: Tensor

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        n_numeric: int,
        cardinalities: Sequence[int] = (),
        n_outputs: int = 1,
        by_class: bool = False,
        memory_rows: int = 1,
        feature_dim: int = 32,
        heads: int = 8,
        blocks: int = 4,
        scaling: float = 1.0,
        dropout: Sequence[float] = (0.1, 0.1, 0.1),
        memory: Lookup = "full",
        neighbours: int = 256,
        samples: bool = True,
        features: bool = True,
    ) -> None:
        super().__init__()
        if n_numeric + len(cardinalities) < 1:
            raise ModelError("Hopular needs at least one attribute beside the target, got none")
        self.n_numeric, self.by_class = n_numeric, by_class
        self.cardinalities = list(cardinalities)
        self.how, self.neighbours = memory, neighbours
        numbers = n_numeric + (not by_class)
        sizes = self.cardinalities + ([n_outputs] if by_class else [])
        self.attributes = numbers + len(sizes)
        self.target_place = self.attributes - 1 if by_class else n_numeric
        before_embedding, of_lookups, before_answer = dropout
        self.embedding = AttributeEmbedding(numbers, sizes, feature_dim, before_embedding)
        self.blocks: Sequence[Block] = nn.ModuleList(  # type: ignore[assignment]
            Block(
                self.attributes, feature_dim, heads, scaling=scaling, dropout=of_lookups,
                samples=samples, features=features,
            )
            for _ in range(blocks)
        )  # fmt: skip
        d = self.attributes * feature_dim
        self.answer_norm = nn.LayerNorm(d, eps=EPS)
        self.answer_dropout = nn.Dropout(before_answer)
        self.answer = nn.Linear(d, numbers + sum(sizes))
        self.sizes = [1] * numbers + sizes
        self.register_buffer("memory_numeric", torch.zeros(memory_rows, n_numeric))
        codes = torch.zeros(memory_rows, len(self.cardinalities), dtype=torch.int64)
        self.register_buffer("memory_categorical", codes)
        kind = torch.int64 if by_class else torch.float32
        self.register_buffer("memory_target", torch.zeros(memory_rows, dtype=kind))
        self._stored: list[Stored | None] | None = None

    def remember(self, numeric: Tensor, categorical: Tensor, target: Tensor) -> Self:
        """Store the training rows: (n, n_numeric), (n, n_categorical), (n,)."""
        self.memory_numeric.copy_(numeric)
        self.memory_categorical.copy_(categorical)
        self.memory_target.copy_(target)
        self._stored = None
        return self

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """The answer for rows whose target is not known, (B, n_outputs)."""
        answers = self.attribute_answers(self.unknown(numeric, categorical))
        return answers.split(self.sizes, dim=1)[self.target_place]

    def unknown(self, numeric: Tensor, categorical: Tensor) -> Rows:
        """Rows with their target masked."""
        masked = torch.zeros(len(numeric), self.attributes, dtype=torch.bool, device=numeric.device)
        masked[:, self.target_place] = True
        target = self.memory_target.new_zeros(len(numeric))
        return Rows(numeric, categorical, target, masked)

    def attribute_answers(
        self, rows: Rows, *, own: Tensor | None = None, subset: Tensor | None = None
    ) -> Tensor:
        """An answer for each attribute: (B, sum of sizes), a number or logits of its classes.

        Args:
            own: (B,) the stored row that each row is, which it must not look at; -1 for none.
            subset: (m,) the stored rows to look at; None for all. `own` counts within it.
        """
        embedded = self._embed(rows)
        xi = embedded
        for block, stored in zip(self.blocks, self.stored(subset), strict=True):
            xi = block(xi, embedded, stored, own, self.how, self.neighbours)
        summary = self.answer_dropout(functional.gelu(xi.flatten(1)))
        answers: Tensor = self.answer(self.answer_norm(summary))
        return answers

    def stored(self, subset: Tensor | None = None) -> list[Stored | None]:
        """Keys and values of the stored rows in each block; kept while nothing is learned."""
        if self._stored is not None and subset is None and not self.training:
            return self._stored
        memory = self.embedded_memory(subset)
        found = [block.stored(memory) for block in self.blocks]
        if subset is None and not self.training and not torch.is_grad_enabled():
            self._stored = found
        return found

    def embedded_memory(self, subset: Tensor | None = None) -> Tensor:
        """(n, F e): the stored rows, their targets visible."""
        numeric, categorical, target = (
            self.memory_numeric, self.memory_categorical, self.memory_target
        )  # fmt: skip
        if subset is not None:
            numeric, categorical, target = numeric[subset], categorical[subset], target[subset]
        masked = torch.zeros(len(numeric), self.attributes, dtype=torch.bool, device=numeric.device)
        return self._embed(Rows(numeric, categorical, target, masked)).flatten(1)

    def _embed(self, rows: Rows) -> Tensor:
        numeric, categorical = rows.numeric, rows.categorical
        if self.by_class:
            categorical = torch.cat([categorical, rows.target[:, None]], 1)
        else:
            numeric = torch.cat([numeric, rows.target[:, None]], 1)
        embedded: Tensor = self.embedding(numeric, categorical, rows.masked)
        return embedded

    @torch.no_grad()
    def lookups(self, numeric: Tensor, categorical: Tensor) -> list[Tensor]:
        """How much each row takes from each stored row: (B, n) a block, mean over heads."""
        embedded = self._embed(self.unknown(numeric, categorical))
        xi, found = embedded, []
        for block, stored in zip(self.blocks, self.stored(), strict=True):
            weights = block.weights(xi, stored)
            if weights is not None:
                found.append(weights)
            xi = block(xi, embedded, stored, None, self.how, self.neighbours)
        return found

    def train(self, mode: bool = True) -> Self:
        """Learn or answer; what was kept of the memory is forgotten when weights may change."""
        if mode:
            self._stored = None
        return super().train(mode)

    def _load_from_state_dict(self, *given: Any, **more: Any) -> None:
        self._stored = None
        super()._load_from_state_dict(*given, **more)
