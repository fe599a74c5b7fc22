"""Adaptive and funnel retrieval: a shortlist from short prefixes, ranked anew by longer ones.

    search = NestedSearch(database, dim=16)         an index of the first 16 numbers, of length 1
    places, distances = search.adaptive(queries, rerank_dim=256, k=200)
    places, distances = search.funnel(queries, dims=(16, 32, 64, 256), lengths=(200, 100, 50, 10))

    adaptive    the k nearest at D_s, ordered by their distance at D_r > D_s
    funnel      stage j: keep the first lengths[j] of the order, order them by distance at dims[j]

Cuts are brought to unit length, then compared by Euclidean distance. faiss makes the shortlist
(extra `retrieval`), by looking at every vector (`flat`) or through a graph (`hnsw`, M = 32);
ranking anew is exact. One query costs, in multiplications of numbers,

    N D_s + sum_j lengths[j] dims[j]          flat;  log2(N) D_s in place of the first term for hnsw

which counts the graph as the paper's plots seem to.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from stackwise.errors import DataError, KnobError
from stackwise.optional import needs
from stackwise.train.matryoshka.sizes import checked_cut

GRAPH = 32
"""Neighbours of a vector in the graph of hnsw, as in the paper's code."""
AT_ONCE = 1 << 24
"""Numbers of shortlisted vectors that are gathered at a time: 64 MiB."""

Kind = Literal["flat", "hnsw"]


class NestedSearch:
    """An index of prefixes over a database whose vectors are kept whole for ranking anew.

    Args:
        database: (N, d) embeddings, float32; kept as they are, not copied.
        dim: D_s, the numbers that the shortlist is made from.
        index: flat looks at every vector; hnsw is faster and may miss some.

    Attributes:
        database: (N, d) float32. dim: D_s.

    Raises:
        NotInstalled: faiss is not here. DataError: these are no vectors. KnobError: no such index.
    """

    def __init__(self, database: Any, dim: int, *, index: Kind = "flat") -> None:
        needs("faiss", "a search by prefixes")
        import faiss

        if index not in ("flat", "hnsw"):
            raise KnobError(f"index must be flat or hnsw, got {index!r}")
        self.database = _vectors(database, "the database")
        self.dim = checked_cut(dim, self.database.shape[1])
        self._index = faiss.IndexFlatL2(dim) if index == "flat" else faiss.IndexHNSWFlat(dim, GRAPH)
        self._index.add(unit_prefixes(self.database, dim))
        self._lengths: dict[int, np.ndarray] = {}

    def shortlist(self, queries: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest by the first `dim` numbers.

        Returns:
            (Q, k) int64 places in the database, nearest first, and (Q, k) float32 distances,
            squared. k is cut, with a warning, to the size of the database.
        """
        asked = self._asked(queries)
        k = self._at_most(k)
        distances, places = self._index.search(unit_prefixes(asked, self.dim), k)
        if (places < 0).any():  # the graph found fewer
            raise DataError(f"the graph found fewer than {k} vectors; take a flat index")
        return places, distances

    def adaptive(
        self, queries: Any, *, rerank_dim: int | None = None, k: int = 200
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest at `dim`, in the order of their distance at `rerank_dim` (None: all d)."""
        size = self.database.shape[1]
        return self.funnel(
            queries, dims=(size if rerank_dim is None else rerank_dim,), lengths=(k,)
        )

    def funnel(
        self, queries: Any, *, dims: Sequence[int], lengths: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Narrow a shortlist stage by stage.

        Args:
            queries: (Q, d). dims: of each stage. lengths: what each stage keeps and orders.

        Returns:
            (Q, lengths[-1]) places, nearest first, and squared distances at dims[-1].

        Raises:
            DataError: the stages do not fit.
        """
        asked = self._asked(queries)
        lengths = self._stages(dims, lengths)
        places, _ = self.shortlist(asked, lengths[0])
        return self.rerank(asked, places, dims=dims, lengths=lengths)

    def rerank(
        self, queries: Any, places: np.ndarray, *, dims: Sequence[int], lengths: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The stages of `funnel` on (Q, k) neighbours that are there; they are left as they are."""
        asked = self._asked(queries)
        lengths = self._stages(dims, lengths)
        if lengths[0] > places.shape[1]:
            raise DataError(f"{places.shape[1]} neighbours a query, and lengths begin {lengths[0]}")
        distances = np.zeros(places.shape, np.float32)
        for dim, length in zip(dims, lengths, strict=True):
            places = places[:, :length]
            distances = self._distances(asked, places, dim)
            order = distances.argsort(1, kind="stable")
            places = np.take_along_axis(places, order, 1)
            distances = np.take_along_axis(distances, order, 1)
        return places, distances

    def _distances(self, queries: np.ndarray, places: np.ndarray, dim: int) -> np.ndarray:
        """(Q, k) squared distances of unit prefixes: 2 - 2 cos."""
        asked = unit_prefixes(queries, dim)
        if dim not in self._lengths:
            lengths = np.linalg.norm(self.database[:, :dim], axis=1)
            self._lengths[dim] = np.maximum(lengths, np.finfo(np.float32).tiny)
        found = np.empty(places.shape, np.float32)
        for rows in _blocks(len(places), places.shape[1] * dim):
            near = self.database[:, :dim][places[rows]]
            products = np.matmul(near, asked[rows][:, :, None])[:, :, 0]
            found[rows] = 2 - 2 * products / self._lengths[dim][places[rows]]
        return found

    def _asked(self, queries: Any) -> np.ndarray:
        asked = _vectors(queries, "the queries")
        if asked.shape[1] != self.database.shape[1]:
            raise DataError(
                f"queries have {asked.shape[1]} numbers, the database {self.database.shape[1]}"
            )
        return asked

    def _stages(self, dims: Sequence[int], lengths: Sequence[int]) -> list[int]:
        """The lengths of the stages, none longer than the database."""
        if len(dims) != len(lengths) or not len(dims):
            raise DataError(
                f"dims and lengths must have the same length, got {len(dims)} and {len(lengths)}"
            )
        if any(a < b for a, b in pairwise(lengths)):
            raise DataError(f"lengths must not increase, got {tuple(lengths)}")
        for dim in dims:
            checked_cut(dim, self.database.shape[1])
        return [self._at_most(length) for length in lengths]

    def _at_most(self, k: int) -> int:
        if k < 1:
            raise DataError(f"a shortlist holds at least 1, got {k}")
        size = len(self.database)
        if k > size:
            warnings.warn(
                f"a shortlist of {k} is cut to the {size} vectors of the database", stacklevel=4
            )
        return min(int(k), size)


def adaptive_search(
    queries: Any, database: Any, *, shortlist_dim: int = 16, rerank_dim: int | None = None,
    k: int = 200, index: Kind = "flat",
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """`NestedSearch.adaptive` on a database that is searched once."""
    made = NestedSearch(database, shortlist_dim, index=index)
    return made.adaptive(queries, rerank_dim=rerank_dim, k=k)


def funnel_search(
    queries: Any, database: Any, *, dims: Sequence[int], lengths: Sequence[int],
    shortlist_dim: int | None = None, index: Kind = "flat",
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """`NestedSearch.funnel` on a database that is searched once; the shortlist is made at the
    first of `dims` where `shortlist_dim` says no other.
    """
    if not len(dims):
        raise DataError("a funnel has at least one stage")
    made = NestedSearch(database, shortlist_dim or dims[0], index=index)
    return made.funnel(queries, dims=dims, lengths=lengths)


def search_cost(
    size: int, shortlist_dim: int, dims: Sequence[int] = (), lengths: Sequence[int] = (), *,
    index: Kind = "flat",
) -> float:  # fmt: skip
    """Multiplications a query in a database of `size` vectors: the shortlist and every stage."""
    looked_at = size if index == "flat" else math.log2(max(size, 2))
    staged = sum(dim * length for dim, length in zip(dims, lengths, strict=True))
    return looked_at * shortlist_dim + staged


def unit_prefixes(vectors: np.ndarray, dim: int) -> np.ndarray:
    """(n, dim) float32 the first numbers of (n, d), each row brought to length 1 behind the cut."""
    kept = np.ascontiguousarray(vectors[:, :dim], dtype=np.float32)
    lengths = np.linalg.norm(kept, axis=1, keepdims=True)
    return np.asarray(kept / np.maximum(lengths, np.finfo(np.float32).tiny))


def _blocks(rows: int, numbers: int) -> Iterator[slice]:
    """Rows, as many at a time as `AT_ONCE` allows for so many numbers a row."""
    step = max(1, AT_ONCE // numbers)
    for start in range(0, rows, step):
        yield slice(start, start + step)


def _vectors(given: Any, what: str) -> np.ndarray:
    array = np.asarray(given)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
        raise DataError(f"{what} must be (n, d) numbers, got {array.dtype} {array.shape}")
    array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise DataError(f"{what} hold NaN or infinity; leave those rows out")
    return array
