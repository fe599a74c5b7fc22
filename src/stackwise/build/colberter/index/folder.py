"""An index on disk: `manifest.json`, and a folder for each segment.

    index = Index.create(folder, made_with={...})
    index.add(documents, encode)        segments of 1,000 documents, each whole or not at all
    index.delete(["a.txt"])             a note in the manifest
    index.compact()                     segments anew, without what was deleted

A segment is written beside its place and renamed into it, and the manifest, which names it, after
that: whatever moment a kill comes at, the index is one that was whole. Indexing the same documents
again goes on behind those that are there.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stackwise.build.colberter.index.segment import Encoded, Segment, write_segment
from stackwise.errors import DataError, RunError
from stackwise.files import read_json, remove, whole_folder, write_json
from stackwise.places import inside
from stackwise.tasks.retrieval.collection import Document

FORMAT = 1
A_SEGMENT = 1000
"""Documents of a segment."""
HASHED = 1 << 30
"""Bytes up to which an index is hashed when it is opened; of larger ones sizes are compared."""
SHAPE = {
    "format": int, "made_with": {"*": object}, "next": int,
    "segments": [{"name": str, "documents": int, "passages": int, "words": int,
                  "files": {"*": [object]}, "deleted": [int]}],
}  # fmt: skip
Encode = Callable[[Sequence[Document]], Encoded]


class Index:
    """Documents as vectors, in a folder.

    Attributes:
        folder: where it lies. made_with: what made its vectors: sizes, reader, hashes.
        segments: in the order in which they came.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.made_with: dict[str, Any] = dict(record["made_with"])
        self._next = int(record["next"])
        self.segments = [
            Segment(inside(self.folder, one["name"]), _of_segment(one), one["deleted"])
            for one in record["segments"]
        ]
        self._places: dict[str, tuple[int, int]] | None = None

    @classmethod
    def create(cls, folder: Path | str, made_with: Mapping[str, Any]) -> "Index":
        """An empty index in a new folder."""
        made = cls(Path(folder), {"made_with": made_with, "next": 0, "segments": []})
        made._say()
        return made

    @classmethod
    def open(cls, folder: Path | str, made_with: Mapping[str, Any] | None = None) -> "Index":
        """An index that is there; what a kill left half written is swept away.

        Args:
            made_with: what must have made it.

        Raises:
            RunError: it is damaged or newer, or something else made it.
        """
        folder = Path(folder)
        record = read_json(folder / "manifest.json", SHAPE, newest=FORMAT)
        made = cls(folder, record)
        if made_with is not None:
            for name, value in made_with.items():
                if made.made_with.get(name) != value:
                    raise RunError(
                        f"the index {folder} was made with {name}={made.made_with.get(name)}, not "
                        f"{value}; index the documents again"
                    )
        hashes = made.bytes_on_disk() <= HASHED
        for segment in made.segments:
            segment.check(hashes=hashes)
        return made

    def sweep(self) -> None:
        """Remove segments that no manifest names, and halves of such."""
        named = {segment.folder.name for segment in self.segments}
        for path in self.folder.iterdir():
            if path.is_dir() and path.name not in named:
                remove(path)

    def __len__(self) -> int:
        return sum(len(segment) - len(segment.deleted) for segment in self.segments)

    @property
    def kind(self) -> str:
        """The type of stored numbers."""
        return str(self.made_with.get("kind", "float32"))

    def places(self) -> dict[str, tuple[int, int]]:
        """By id, the segment and the number of each document that is there."""
        if self._places is None:
            self._places = {
                one: (at, number)
                for at, segment in enumerate(self.segments)
                for number, one in enumerate(segment.ids)
                if number not in segment.deleted
            }
        return self._places

    def read(self, name: str) -> Document:
        """The document of an id.

        Raises:
            DataError: there is none.
        """
        if name not in self.places():
            raise DataError(f"the index has no document {name!r}")
        at, number = self.places()[name]
        return self.segments[at].read(number)

    def add(
        self,
        documents: Sequence[Document],
        encode: Encode,
        *,
        tell: Callable[[int], None] = lambda more: None,
        done: int = 0,
    ) -> None:
        """Encode documents and add them, a segment at a time.

        Args:
            tell: called with how many were added since.
            done: of the documents, those that are there already, from an earlier attempt.

        Raises:
            DataError: an id is there already.
        """
        new = documents[done:]
        ids = [one.id for one in new]
        known = next((one for one in ids if one in self.places()), None)
        if known is not None or len(set(ids)) < len(ids):
            named = known or next(one for one in ids if ids.count(one) > 1)
            raise DataError(f"there is a document {named!r} already; delete it first")
        self.sweep()
        tell(done)
        for start in range(0, len(new), A_SEGMENT):
            part = new[start : start + A_SEGMENT]
            self.add_encoded(part, encode(part))
            tell(len(part))

    def add_encoded(self, documents: Sequence[Document], found: Encoded) -> None:
        """Add documents whose vectors are there, as one segment."""
        segment = self._written(documents, found)
        self.segments.append(segment)
        self._say()

    def _written(self, documents: Sequence[Document], found: Encoded) -> Segment:
        place = self.folder / f"{self._next:06d}"
        self._next += 1
        with whole_folder(place) as beside:
            record = write_segment(
                beside, documents, found, kind=self.kind,
                turned=bool(self.made_with.get("exact_match")),
            )  # fmt: skip
        return Segment(place, record, [])

    def delete(self, ids: Sequence[str]) -> None:
        """Take documents out; their bytes stay until `compact`.

        Raises:
            DataError: one is not there; then none is taken out.
        """
        known = self.places()
        unknown = next((one for one in ids if one not in known), None)
        if unknown is not None:
            raise DataError(f"the index has no document {unknown!r}")
        for one in ids:
            at, number = known[one]
            self.segments[at].deleted.add(number)
        self._say()

    def compact(self) -> None:
        """Write the documents that are there into segments anew, in their order, and remove the old
        ones.
        """
        old = self.segments
        self.sweep()
        made: list[Segment] = []
        waiting: list[tuple[Segment, int]] = []
        alive = [
            (segment, number)
            for segment in old
            for number in range(len(segment))
            if number not in segment.deleted
        ]
        for one in alive:
            waiting.append(one)
            if len(waiting) == A_SEGMENT:
                made.append(self._joined(waiting))
                waiting = []
        if waiting:
            made.append(self._joined(waiting))
        self.segments = made
        self._say()
        for segment in old:
            remove(segment.folder)

    def _joined(self, chosen: Sequence[tuple[Segment, int]]) -> Segment:
        """A segment of some documents of others."""
        documents, cls, words, vectors, counts, owner = [], [], [], [], [], []
        for place, (segment, number) in enumerate(chosen):
            documents.append(segment.read(number))
            passages = np.flatnonzero(segment.document == number)
            own, found, starts = segment.words_of(passages)
            cls.append(np.asarray(segment.array("cls")[passages]))
            words.append(own)
            vectors.append(found)
            counts.append(np.diff(np.append(starts, len(own))))
            owner.append(np.full(len(passages), place))
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        return self._written(
            documents,
            Encoded(np.concatenate(cls), np.concatenate(vectors), np.concatenate(words), offsets,
                    np.concatenate(owner)),
        )  # fmt: skip

    def bytes_on_disk(self, *, texts: bool = True) -> int:
        """Bytes of the segments' files, with the documents' own texts or without."""
        left_out = () if texts else ("documents.jsonl", "lines.npy", "ids.json")
        return sum(
            size
            for segment in self.segments
            for name, (size, _) in segment.record["files"].items()
            if name not in left_out
        )

    def _say(self) -> None:
        """Write the manifest."""
        segments = [
            {"name": one.folder.name, "deleted": sorted(one.deleted)} | one.record
            for one in self.segments
        ]
        write_json(self.folder / "manifest.json", {
            "format": FORMAT, "made_with": self.made_with, "next": self._next,
            "documents": len(self), "segments": segments,
        })  # fmt: skip
        self._places = None


def _of_segment(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("documents", "passages", "words", "files")}
