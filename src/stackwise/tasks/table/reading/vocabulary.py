"""Which values of a category get a code of their own, and which share one.

A vocabulary lists the values of a column, the most frequent first where the list is cut; what is
left out becomes one more level. Where a column has more values than a list should hold, a hash
shares them out over a fixed number of buckets:

    bucket(value) = blake2b(value) mod hash_buckets

Values in one bucket are one category from then on. A bucket that training never filled has no
code: it would be a category about which nothing was learned.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from stackwise.errors import DataError

MAX_LEVELS = 512
"""A category keeps this many levels, the most frequent; the others become one level."""


@dataclass(frozen=True)
class Vocabulary:
    """How the values of categories become codes.

    Attributes:
        max_levels: most values that get a code of their own.
        min_count: rows that a value must have to get one.
        hash_buckets: a column with more values than this many shares them out by hash; None
            never does. `max_levels` and `min_count` do not apply to it.
        ids: a whole number under the name of an identifier (`user_id`, `itemId`) whose values
            return is a category, not an amount.
        separators: by column, what parts the several values that a cell holds.
    """

    max_levels: int = MAX_LEVELS
    min_count: int = 1
    hash_buckets: int | None = None
    ids: bool = False
    separators: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("max_levels", "min_count"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.hash_buckets is not None and self.hash_buckets < 2:
            raise DataError(f"hash_buckets must be at least 2 or None, got {self.hash_buckets}")
        for name, separator in self.separators.items():
            if not isinstance(separator, str) or not separator:
                raise DataError(f"the values of column {name!r} are parted by {separator!r}")

    def hashes(self, distinct: int) -> bool:
        """Whether a column with this many values shares them out by hash."""
        return self.hash_buckets is not None and distinct > self.hash_buckets

    def keep(self, counts: np.ndarray) -> list[int]:
        """The places of the values with a code of their own, the most frequent first.

        Args:
            counts: rows of each value; one without rows gets no code.
        """
        order = np.argsort(-counts, kind="stable")
        return [int(i) for i in order if counts[i] >= self.min_count][: self.max_levels]


def buckets(spellings: Iterable[str], count: int) -> np.ndarray:
    """The bucket of each spelling, int64 in 0 .. count - 1; the same on every machine."""
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in spellings)
    return np.array([int.from_bytes(d, "little") % count for d in digests], dtype=np.int64)


def parted(cell: str, separator: str) -> list[str]:
    """The values that a cell holds, each once, in their order."""
    return list(dict.fromkeys(text for part in cell.split(separator) if (text := part.strip())))
