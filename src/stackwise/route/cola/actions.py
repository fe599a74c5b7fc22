"""Paths through a stack, and the edits that lead from one to another.

A path lists the blocks that run, in their order. An edit begins at a place s of it:

    skip(s, k)        leave out the k entries from s on                         k in 1 .. 4
    repeat(s, k, r)   after the k entries from s on, run them r times more      k, r in 1 .. 4

Runs of blocks are repeated with copies of what stands in the path, so edits of edited pieces give
some other orders too. A path is never empty and never longer than a cap.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Path = tuple[int, ...]


@dataclass(frozen=True)
class Edit:
    """One edit of a path: `times` is 0 for a skip."""

    start: int
    length: int
    times: int = 0

    def __call__(self, path: Path) -> Path:
        """The edited path."""
        end = self.start + self.length
        return path[: self.start if self.times == 0 else end] + (
            path[self.start : end] * self.times + path[end:]
        )

    def __str__(self) -> str:
        what = f"{self.start}..{self.start + self.length - 1}"
        return f"skip {what}" if self.times == 0 else f"repeat {what}, {self.times} times"


@dataclass(frozen=True)
class Space:
    """Which edits there are.

    Attributes:
        skips, repeats: whether blocks may be left out, and run again.
        most_blocks: longest run that is edited at a time. most_repeats: how often it is repeated.
        longest: entries of a path at most.
        protected: blocks of the model that are never edited.
    """

    skips: bool = True
    repeats: bool = True
    most_blocks: int = 4
    most_repeats: int = 4
    longest: int = 64
    protected: frozenset[int] = frozenset()

    def edits(self, path: Path) -> Iterator[Edit]:
        """Every edit of a path that gives a path."""
        for start in range(len(path)):
            for length in range(1, self.most_blocks + 1):
                run = path[start : start + length]
                if len(run) < length or self.protected.intersection(run):
                    break
                if self.skips and length < len(path):
                    yield Edit(start, length)
                if self.repeats:
                    for times in range(1, self.most_repeats + 1):
                        if len(path) + length * times <= self.longest:
                            yield Edit(start, length, times)


def blocks_of(path: Sequence[int]) -> int:
    """How many different blocks a path runs: its depth without repeats."""
    return len(set(path))
