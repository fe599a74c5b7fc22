"""A corpus: documents that are read one after the other, and their parts.

A text file or a packaged text is one document; a folder has one a file; records (JSON lines, JSON,
csv, Parquet, Arrow) have one a row. Where there are many documents, whole ones are drawn for
validation and test. Where there are few, each is cut: its beginning is for training, what follows
for validation, its end for the test, so that no passage is on two sides.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stackwise.errors import DataError
from stackwise.optional import needs
from stackwise.protocols import Part
from stackwise.tasks.language.content import is_given, text_of
from stackwise.tasks.language.encoding import plain_text
from stackwise.tasks.language.records import is_records, is_saved_dataset, records_of
from stackwise.tasks.text.marks import ENDINGS

FEW = 20
"""Fewer documents than this are cut, each, instead of drawn whole."""
PARTS: tuple[Part, ...] = ("train", "validation", "test")
Cut = Literal["auto", "line", "paragraph"]


@dataclass(frozen=True)
class Corpus:
    """Documents in their order, read each time they are asked for.

    Attributes:
        read: gives the documents, as text.
    """

    title: str
    read: Callable[[], Iterator[str]]

    @cached_property
    def counted(self) -> tuple[int, int, str]:
        """The number of documents, their bytes, and a hash of them."""
        digest = hashlib.sha256()
        count = size = 0
        for document in self.read():
            encoded = document.encode()
            digest.update(encoded)
            digest.update(b"\0")
            count += 1
            size += len(encoded)
        if not size:
            raise DataError(f"{self.title} holds no text")
        return count, size, digest.hexdigest()[:16]

    def part(self, part: Part, shares: tuple[float, float], seed: int) -> Iterator[str]:
        """The documents of a part; `shares` are those of validation and test."""
        count = self.counted[0]
        if count < FEW:
            place = PARTS.index(part)
            yield from (text for one in self.read() if (text := _cut(one, shares)[place]))
            return
        order = np.random.default_rng(seed).permutation(count)
        held = [max(1, round(share * count)) for share in shares]
        part_of = np.zeros(count, dtype=np.int8)
        part_of[order[: held[0]]] = 1
        part_of[order[held[0] : held[0] + held[1]]] = 2
        wanted = PARTS.index(part)
        yield from (text for text, own in zip(self.read(), part_of, strict=True) if own == wanted)


def open_corpus(source: Any, documents: Cut = "auto", field: str = "text") -> Corpus:
    """The corpus that `source` names.

    Args:
        source: a text file, a folder of them or one that `datasets` saved, a file of records
            (.jsonl, .json, .csv, .parquet and others), a packaged text's name (`stackwise data`),
            `hf://owner/name`, a frame, or a list of documents.
        documents: whether each line, or each paragraph, is a document of its own.
        field: the column of the text, where the source has columns.

    Raises:
        DataError: there is nothing of the kind, or it is no text.
    """
    if isinstance(source, (list, tuple)):
        if not all(isinstance(one, str) for one in source):
            raise DataError("a list of documents holds texts, nothing else")
        return Corpus(f"{len(source)} documents", lambda: _kept(source, documents))
    if not isinstance(source, (str, os.PathLike)):
        title = f"a {type(source).__name__}"
        return Corpus(title, lambda: _kept(_rows(source, field), documents))
    name = os.fspath(source)
    if name.startswith("hf://"):
        return Corpus(name, lambda: _kept(_hub_rows(name, field), documents))
    path = Path(name)
    if is_saved_dataset(path):
        return Corpus(path.name, lambda: _kept(_rows(path, field), documents))
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
        if not files:
            raise DataError(f"the folder {path} holds no text files ({', '.join(ENDINGS)})")
        return Corpus(path.name, lambda: _kept(map(plain_text, files), documents))
    if path.is_file():
        if is_records(path):
            return Corpus(path.stem, lambda: _kept(_rows(path, field), documents))
        return Corpus(path.stem, lambda: _kept([plain_text(path)], documents))
    from stackwise import data

    if name in {entry.name for entry in data.names("text")}:
        return Corpus(name, lambda: _kept([data.text(name)], documents))
    raise DataError(
        f"{name} is no file, no folder and no packaged text; 'stackwise data' lists the texts"
    )


def _kept(texts: Any, documents: Cut) -> Iterator[str]:
    """The documents that hold something, cut into lines or paragraphs where that is wanted."""
    for text in texts:
        parts: Sequence[str] = [text]
        if documents == "line":
            parts = text.split("\n")
        elif documents == "paragraph":
            parts = re.split(r"\n\s*\n", text)
        yield from (part.strip("\n") for part in parts if part.strip())


def _rows(source: Any, field: str) -> Iterator[str]:
    """The texts of records; a blank one is no document."""
    for number, (at, row) in enumerate(records_of(source), start=1):
        place = at or f"row {number}"
        if not isinstance(row, Mapping) or field not in row:
            listed = ", ".join(map(str, list(row)[:8])) if isinstance(row, Mapping) else "no fields"
            raise DataError(
                f"{place} has no {field!r} (it has {listed}); name the field with --field"
            )
        if is_given(row[field]):
            yield text_of(row[field], f"the {field!r} of {place}")


def _hub_rows(name: str, field: str) -> Iterator[str]:
    needs("datasets", name)
    import datasets

    rows = datasets.load_dataset(name.removeprefix("hf://"), split="train", streaming=True)
    for number, row in enumerate(rows, start=1):
        if field not in row:
            raise DataError(f"{name} has no column {field!r}; name it with --field")
        if is_given(row[field]):
            yield text_of(row[field], f"the {field!r} of row {number} of {name}")


def _cut(text: str, shares: tuple[float, float]) -> tuple[str, str, str]:
    """A document's beginning, what follows, and its end, cut between paragraphs or lines."""
    first = _boundary(text, 1 - sum(shares))
    second = max(first, _boundary(text, 1 - shares[1]))
    return text[:first].rstrip("\n"), text[first:second].strip("\n"), text[second:].strip("\n")


def _boundary(text: str, share: float) -> int:
    """The place nearest after this share of the text where a paragraph, a line or a word ends."""
    wanted = round(share * len(text))
    reach = wanted + max(len(text) // 20, 1)
    for mark in ("\n\n", "\n", " "):
        found = text.find(mark, wanted, reach)
        if found >= 0:
            return found + len(mark)
    return wanted
