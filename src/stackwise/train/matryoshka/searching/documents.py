"""Documents as vectors, searched at any of their sizes in one of three ways.

    full        the cosine of the first `dim` numbers with every document
    adaptive    a shortlist by few numbers, ordered by `dim`
    funnel      the same through the nested sizes between, half as many documents at each

A score is the cosine at `dim`, whichever way it was found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from stackwise.catalog import Knob
from stackwise.train.matryoshka.retrieval import NestedSearch
from stackwise.train.matryoshka.sizes import checked_cut

Workflow = Literal["full", "adaptive", "funnel"]
USUAL_LEAST = 16
"""Numbers that a shortlist is made by at least, where nothing is said."""


def search_knobs(
    *,
    workflow: Annotated[
        Workflow,
        Knob("every vector; a shortlist by few numbers, ordered anew; or one that narrows"),
    ] = "adaptive",
    shortlist: Annotated[int, Knob("documents that are ordered anew", ge=1)] = 200,
    shortlist_dim: Annotated[
        int | None,
        Knob("numbers that a shortlist is made by; none: the least of dims from 16 on", ge=1),
    ] = None,
) -> None:
    """How documents are searched."""


def usual_shortlist_dim(dims: Sequence[int]) -> int:
    """The smallest nested size that is at least 16; the largest where none is."""
    return next((m for m in dims if m >= USUAL_LEAST), dims[-1])


@dataclass(frozen=True)
class Way:
    """How documents are searched.

    Attributes:
        dims: nested sizes. shortlist: documents that are ordered anew; shortlist_dim: numbers by
            which they are found.
    """

    workflow: Workflow
    dims: tuple[int, ...]
    shortlist: int
    shortlist_dim: int

    def stages(self, dim: int, k: int) -> list[tuple[int, int]]:
        """The size and the documents of each stage behind the shortlist, at `dim` in the end."""
        most = max(self.shortlist, k)
        between: list[int] = []
        if self.workflow == "funnel":
            between = [m for m in self.dims if self.shortlist_dim < m < dim]
        return [(m, max(most >> place, k)) for place, m in enumerate([*between, dim])]


class NestedDocuments:
    """Vectors of documents, with an index of each size at which a search begins.

    Attributes:
        vectors: (n, d) float32.
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors
        self._at: dict[int, NestedSearch] = {}

    def __len__(self) -> int:
        return len(self.vectors)

    def at(self, dim: int) -> NestedSearch:
        """The index of the first `dim` numbers, made once."""
        if dim not in self._at:
            self._at[dim] = NestedSearch(self.vectors, dim)
        return self._at[dim]

    def search(
        self, queries: np.ndarray, k: int, way: Way, dim: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of (Q, d) queries by their first `dim` numbers, or all that there are.

        Returns:
            (Q, k) int64 places, the nearest first, and (Q, k) float32 cosines.

        Raises:
            DataError: vectors have not so many numbers.
        """
        size = checked_cut(dim, self.vectors.shape[1])
        k = min(k, len(self))
        if way.workflow == "full" or size <= way.shortlist_dim:
            places, distances = self.at(size).shortlist(queries, k)
        else:
            stages = way.stages(size, k)
            dims = [m for m, _ in stages]
            lengths = [min(length, len(self)) for _, length in stages]
            search = self.at(way.shortlist_dim)
            places, distances = search.funnel(queries, dims=dims, lengths=lengths)
        return places[:, :k], 1 - distances[:, :k] / 2
