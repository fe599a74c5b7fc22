"""A segment: some documents, cut into passages, as flat arrays with offsets that are never changed.

    cls.npy        (P, cls_dim)     of each passage            words.npy    (W,) uint32 ids
    vectors.npy    (W, d)           of each kept word          offsets.npy  (P + 1,) int64
    document.npy   (P,) int64       of each passage            ids.json     of each document
    documents.jsonl, lines.npy      the documents themselves, and where each begins

and where equal words alone match, words turned round: of each different word its places.

    posting_words.npy (U,)   posting_starts.npy (U + 1,)   posting_places.npy (W,)
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stackwise.errors import RunError
from stackwise.files import read_json, write_json
from stackwise.places import inside
from stackwise.seals import file_hash
from stackwise.tasks.retrieval.collection import Document

ARRAYS = ("cls", "vectors", "words", "offsets", "document", "lines")
POSTINGS = ("posting_words", "posting_starts", "posting_places")


@dataclass(frozen=True)
class Encoded:
    """Documents as an index keeps them.

    Attributes:
        cls: (P, cls_dim) of passages. vectors: (W, d) and words: (W,) of their kept words.
        offsets: (P + 1,) where each passage's words begin. document: (P,) whose passage it is.
    """

    cls: np.ndarray
    vectors: np.ndarray
    words: np.ndarray
    offsets: np.ndarray
    document: np.ndarray


def write_segment(
    folder: Path, documents: Sequence[Document], found: Encoded, *, kind: str, turned: bool
) -> dict[str, Any]:
    """Write a segment into a folder that is there; returns what a manifest keeps of it.

    Args:
        kind: float16 or float32, of vectors. turned: write where each word is.
    """
    lines, place = [0], 0
    with open(folder / "documents.jsonl", "wb") as file:
        for one in documents:
            place += file.write(json.dumps(one.as_dict(), default=str).encode() + b"\n")
            lines.append(place)
    write_json(folder / "ids.json", [one.id for one in documents])
    arrays = {
        "cls": found.cls.astype(kind), "vectors": found.vectors.astype(kind),
        "words": found.words.astype(np.uint32), "offsets": found.offsets.astype(np.int64),
        "document": found.document.astype(np.int64), "lines": np.array(lines, dtype=np.int64),
    }  # fmt: skip
    if turned:
        order = np.argsort(arrays["words"], kind="stable")
        words, starts = np.unique(arrays["words"][order], return_index=True)
        arrays |= {
            "posting_words": words, "posting_places": order.astype(np.int64),
            "posting_starts": np.append(starts, len(order)).astype(np.int64),
        }  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {
        "documents": len(documents), "passages": len(found.cls), "words": len(found.words),
        "files": {path.name: [path.stat().st_size, file_hash(path)] for path in files},
    }  # fmt: skip


class Segment:
    """A written segment; its arrays are mapped when they are first asked for.

    Attributes:
        deleted: numbers of documents that are no longer there.
    """

    def __init__(self, folder: Path, record: dict[str, Any], deleted: Sequence[int]) -> None:
        self.folder, self.record = folder, record
        self.deleted = set(deleted)

    def __len__(self) -> int:
        return int(self.record["documents"])

    def check(self, *, hashes: bool) -> None:
        """Hold the files to what the manifest says.

        Raises:
            RunError: one is missing, cut off or, by its hash, another one.
        """
        for name, (size, digest) in self.record["files"].items():
            path = inside(self.folder, name)
            if not path.is_file() or path.stat().st_size != size:
                raise RunError(f"{path} is missing or cut off; index the documents again")
            if hashes and file_hash(path) != digest:
                raise RunError(f"{path} is damaged; index the documents again")

    def array(self, name: str) -> np.ndarray:
        """One of the arrays, mapped."""
        return _mapped(self.folder / f"{name}.npy")

    @functools.cached_property
    def cls(self) -> np.ndarray:
        """(P, cls_dim) float32 of the passages, in memory: every query looks at all of them."""
        return np.ascontiguousarray(self.array("cls"), dtype=np.float32)

    @functools.cached_property
    def document(self) -> np.ndarray:
        """(P,) the document of each passage, in memory."""
        return np.array(self.array("document"))

    @functools.cached_property
    def ids(self) -> list[str]:
        """The ids of the documents."""
        found: list[str] = read_json(self.folder / "ids.json", [str])
        return found

    def alive(self) -> np.ndarray:
        """(P,) bool, the passages of documents that are there."""
        if not self.deleted:
            return np.ones(int(self.record["passages"]), dtype=bool)
        return ~np.isin(self.document, list(self.deleted))

    def read(self, number: int) -> Document:
        """A document, by its number here."""
        begin, end = self.array("lines")[number : number + 2]
        with open(self.folder / "documents.jsonl", "rb") as file:
            file.seek(int(begin))
            one = json.loads(file.read(int(end - begin)))
        return Document(one["id"], one["text"], one["title"], one["fields"])

    def words_of(self, passages: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The words of some passages, one passage after the other.

        Returns:
            (w,) ids, (w, d) float32 vectors, and (p,) where each passage begins in them.
        """
        offsets = self.array("offsets")
        begins, counts = offsets[passages], offsets[passages + 1] - offsets[passages]
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        places = np.repeat(begins - starts, counts) + np.arange(int(counts.sum()))
        vectors = self.array("vectors")[places].astype(np.float32)
        return self.array("words")[places].astype(np.int64), vectors, starts

    def postings(self, word: int) -> np.ndarray:
        """(n,) the places of a word among all kept words."""
        known = self.array("posting_words")
        place = int(np.searchsorted(known, word))
        if place == len(known) or known[place] != word:
            return np.zeros(0, dtype=np.int64)
        begin, end = self.array("posting_starts")[place : place + 2]
        return np.asarray(self.array("posting_places")[begin:end])


@functools.lru_cache(maxsize=4096)
def _mapped(path: Path) -> np.ndarray:
    found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return found
