"""Texts as samples: rows of them, with their numbers in the source."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import xxhash

from stackwise.errors import DataError
from stackwise.tasks.language.content import text_of


class Texts:
    """Rows of texts.

    Attributes:
        values: (n,) objects, a string each. index: (n,) the number of each in its source.
    """

    def __init__(self, texts: Sequence[str] | np.ndarray, index: np.ndarray | None = None) -> None:
        self.values = np.empty(len(texts), dtype=object)
        self.values[:] = list(texts)
        self.index = np.arange(len(texts)) if index is None else index

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> Any:
        """One text, or the rows of a slice or of (k,) numbers."""
        if isinstance(rows, (int, np.integer)):
            return str(self.values[rows])
        return Texts(self.values[rows], self.index[rows])

    def only(self, rows: np.ndarray) -> Self:
        """These rows."""
        return type(self)(self.values[rows], self.index[rows])

    @classmethod
    def joined(cls, texts: "Sequence[Texts]") -> "Texts":
        """Several, one after the other."""
        return cls(
            np.concatenate([one.values for one in texts]),
            np.concatenate([one.index for one in texts]),
        )

    @property
    def shape(self) -> tuple[int]:
        """(n,)."""
        return (len(self),)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, about."""
        return sum(len(text) for text in self.values) + 8 * len(self)

    @property
    def hashes(self) -> np.ndarray:
        """(n,) uint64: equal where texts are equal letter for letter."""
        found = [xxhash.xxh3_64_intdigest(text.encode()) for text in self.values]
        return np.array(found, dtype=np.uint64)


def as_texts(X: Any) -> Texts:
    """Texts of a list, a column of a frame or an array of them.

    Raises:
        DataError: it is something else, or one of them is no text.
    """
    if isinstance(X, Texts):
        return X
    column = X.to_numpy() if hasattr(X, "to_numpy") else X
    if isinstance(column, np.ndarray) and column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    flat = isinstance(column, np.ndarray) and column.ndim == 1
    if isinstance(column, str) or not (flat or isinstance(column, (list, tuple))):
        raise DataError(
            f"texts are a list of strings, or a column of them, and this is a {type(X).__name__}"
        )
    return Texts([text_of(one, f"text {place}") for place, one in enumerate(column, start=1)])
