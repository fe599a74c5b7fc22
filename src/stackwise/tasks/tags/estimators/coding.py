"""What a model says of each word, as classes, and the names that follow from it.

    InOut       O, drug                             part of a name or not; two in a row are one
    Prefixed    O, B-drug, I-drug                   BIO, or IOBES
    Runs        O, drug x1, ..., drug x5            how many words the name has that begins here

Class 0 is O. Whatever the classes are, names do not overlap.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from stackwise.errors import RunError
from stackwise.tasks.tags.schemes import Scheme, Span, spans_of, tags_of

Scored = tuple[int, int, str, float]
"""A name and how sure it is: start, end, type, score."""


class Coding(Protocol):
    """How names are said by classes.

    Attributes:
        classes: what each class is called, O first.
    """

    classes: list[str]

    def encode(self, spans: Sequence[Span], length: int) -> np.ndarray:
        """(length,) int64 the class of each word."""
        ...

    def decode(self, codes: np.ndarray) -> list[Span]:
        """The names that (n,) classes say."""
        ...

    def as_json(self) -> dict[str, Any]:
        """What `coding_of` makes it of again."""
        ...


class InOut:
    """A class a type; a run of words of one type is a name."""

    def __init__(self, types: Sequence[str]) -> None:
        self.types = list(types)
        self.classes = ["O", *self.types]

    def encode(self, spans: Sequence[Span], length: int) -> np.ndarray:
        """(length,) int64."""
        codes = np.zeros(length, dtype=np.int64)
        for start, end, type_ in spans:
            codes[start:end] = 1 + self.types.index(type_)
        return codes

    def decode(self, codes: np.ndarray) -> list[Span]:
        """Maximal runs of one class."""
        if not codes.any():
            return []
        ends = np.flatnonzero(np.diff(codes)) + 1
        starts = [0, *ends.tolist()]
        stops = [*ends.tolist(), len(codes)]
        return [
            Span(start, stop, self.types[codes[start] - 1])
            for start, stop in zip(starts, stops, strict=True) if codes[start]
        ]  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Kind and types."""
        return {"kind": "in-out", "types": self.types}


class Prefixed:
    """A class a tag of BIO or IOBES. What cannot follow each other is read as `repair` does."""

    def __init__(self, types: Sequence[str], scheme: Scheme) -> None:
        self.types, self.scheme = list(types), scheme
        letters = "BI" if scheme == "BIO" else "BIES"
        self.classes = ["O", *(f"{letter}-{of}" for of in self.types for letter in letters)]
        self.places = {tag: place for place, tag in enumerate(self.classes)}

    def encode(self, spans: Sequence[Span], length: int) -> np.ndarray:
        """(length,) int64."""
        tags = tags_of(spans, length, self.scheme)
        return np.array([self.places[tag] for tag in tags], dtype=np.int64)

    def decode(self, codes: np.ndarray) -> list[Span]:
        """The names that the tags mark."""
        if not codes.any():
            return []
        tags = [self.classes[code] for code in codes.tolist()]
        return spans_of(tags, self.scheme, repair=True)

    def as_json(self) -> dict[str, Any]:
        """Kind, types and scheme."""
        return {"kind": self.scheme, "types": self.types}


class Runs:
    """A class a type and a number of words, 1 to `longest`: of the name that begins at a word.

    A name is found from left to right: at word i a class of k words takes i to i + k - 1, and i + k
    is looked at next. Of a longer name the first `longest` words are one, and the next class, at
    the word behind them, is O: the rest is lost.

    Args:
        inside: a word within a name gets the class of what is left of it, in place of O.
    """

    def __init__(self, types: Sequence[str], longest: int, *, inside: bool = False) -> None:
        self.types, self.longest, self.inside = list(types), longest, inside
        lengths = range(1, longest + 1)
        self.classes = ["O", *(f"{of} x{length}" for of in self.types for length in lengths)]

    def encode(self, spans: Sequence[Span], length: int) -> np.ndarray:
        """(length,) int64."""
        codes = np.zeros(length, dtype=np.int64)
        for start, end, type_ in spans:
            first = 1 + self.types.index(type_) * self.longest
            for place in range(start, end if self.inside else start + 1):
                codes[place] = first + min(end - place, self.longest) - 1
        return codes

    def decode(self, codes: np.ndarray) -> list[Span]:
        """The names, from left to right."""
        found: list[Span] = []
        for place in np.flatnonzero(codes).tolist():
            if found and place < found[-1].end:
                continue
            of, length = divmod(int(codes[place]) - 1, self.longest)
            found.append(Span(place, min(place + length + 1, len(codes)), self.types[of]))
        return found

    def as_json(self) -> dict[str, Any]:
        """Kind, types and the longest run."""
        kept = {"kind": "runs", "types": self.types, "longest": self.longest}
        return kept | ({"inside": True} if self.inside else {})


def coding_of(record: dict[str, Any]) -> Coding:
    """The inverse of `as_json`.

    Raises:
        RunError: it is none.
    """
    kind, types = record["kind"], [str(of) for of in record["types"]]
    if kind == "in-out":
        return InOut(types)
    if kind in ("BIO", "IOBES"):
        return Prefixed(types, kind)
    if kind == "runs":
        return Runs(types, int(record["longest"]), inside=bool(record.get("inside")))
    raise RunError(f"the record names the coding {str(kind)[:40]!r}, which is none")
