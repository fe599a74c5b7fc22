"""Warnings about rows, counted by column, so that a table that is read in pieces warns once."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Self


class CountedRows(UserWarning):
    """Rows in which something is odd; `counts` has them by column, `examples` one value of each.

    Its arguments make it again, in another process too.
    """

    what: ClassVar[str] = "odd values"

    def __init__(self, counts: dict[str, int], examples: dict[str, str] | None = None) -> None:
        super().__init__(counts, examples or {})
        self.counts = counts
        self.examples = examples or {}

    def __str__(self) -> str:
        listed = ", ".join(self._one(name) for name in self.counts)
        return f"{self.what}: {listed}"

    def _one(self, name: str) -> str:
        shown = f" (such as {self.examples[name][:60]!r})" if name in self.examples else ""
        return f"{name!r} in {self.counts[name]:,} rows{shown}"

    def joined(self, other: Self) -> Self:
        """Both together."""
        counts = Counter(self.counts) + Counter(other.counts)
        return type(self)(dict(counts), other.examples | self.examples)

    def by_column(self) -> Iterator[Self]:
        """The same, a warning a column."""
        for name, count in self.counts.items():
            example = {name: self.examples[name]} if name in self.examples else {}
            yield type(self)({name: count}, example)


class UnseenCategories(CountedRows):
    """Values that training did not see."""

    what = "values not seen in training count as an unseen category"


def merged(caught: Iterable[Any]) -> list[Warning]:
    """Caught warnings, each once: counts of one kind added up, and then one a column."""
    counted: dict[type, CountedRows] = {}
    others: dict[tuple[type, str], Warning] = {}
    for item in caught:
        message = item.message
        if isinstance(message, CountedRows):
            before = counted.get(type(message))
            counted[type(message)] = message if before is None else before.joined(message)
        else:
            others.setdefault((item.category, str(message)), message)
    by_column = [one for found in counted.values() for one in found.by_column()]
    return [*others.values(), *by_column]
