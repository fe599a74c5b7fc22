"""A collection: documents, the queries asked of it, and which documents answer which query."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stackwise.errors import DataError

SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
"""Where a sentence ends."""


@dataclass(frozen=True)
class Document:
    """A text that can be found.

    Attributes:
        fields: what else its record holds; kept, and returned with it.
    """

    id: str
    text: str
    title: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def whole(self) -> str:
        """What is searched: the title, and the text behind it."""
        return f"{self.title}\n{self.text}" if self.title and self.text else self.title or self.text

    def as_dict(self) -> dict[str, Any]:
        """The document as JSON."""
        return {"id": self.id, "title": self.title, "text": self.text, "fields": dict(self.fields)}


@dataclass(frozen=True)
class Query:
    """A text that asks."""

    id: str
    text: str


@dataclass(frozen=True)
class Pair:
    """A query and a document that answers it: what training reads.

    Attributes:
        negative: a text that does not answer it, where one is known. margin: by how much a teacher
            puts the positive before it.
        query: its number in the collection; -1 of a pair that was made from a document alone.
    """

    asked: str
    positive: str
    negative: str | None = None
    query: int = -1
    margin: float | None = None


@dataclass
class Collection:
    """What is searched, what is asked, and what is right.

    Attributes:
        judged: by query, how relevant documents are to it, by id; 0 and below is not relevant.
        parts: by query, the part that its file says; empty where files say none.
        notes: sentences about what was left out.
    """

    title: str
    documents: list[Document]
    queries: list[Query] = field(default_factory=list)
    judged: dict[str, dict[str, int]] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def checked(self) -> "Collection":
        """Itself, where it holds together; queries that nothing answers are left out and counted.

        Raises:
            DataError: a document is empty, two have one id, or a judgement names what is not there.
        """
        if not self.documents:
            raise DataError(f"{self.title} holds no documents")
        for one in self.documents:
            if not any(sign.isalnum() for sign in one.whole):
                raise DataError(f"document {one.id!r} of {self.title} is empty; leave it out")
        ids = _once((one.id for one in self.documents), "documents", self.title)
        asked = _once((one.id for one in self.queries), "queries", self.title)
        for query, relevant in self.judged.items():
            if query not in asked:
                raise DataError(f"a judgement names the query {query!r}, which is not there")
            for document in relevant:
                if document not in ids:
                    raise DataError(
                        f"a judgement of query {query!r} names the document {document!r}, which is "
                        "not there"
                    )
        answered = {query for query, found in self.judged.items() if max(found.values()) > 0}
        without = len(asked) - len(answered)
        if without and self.judged:
            self.notes.append(f"{without:,} queries without a relevant document are left out")
            self.queries = [one for one in self.queries if one.id in answered]
        return self

    def hash(self, more: str) -> str:
        """16 hex digits of everything that is read."""
        digest = hashlib.sha256(more.encode())
        for one in self.documents:
            digest.update(json.dumps([one.id, one.title, one.text]).encode())
        for query in self.queries:
            relevant = sorted(self.judged.get(query.id, {}).items())
            digest.update(json.dumps([query.id, query.text, relevant]).encode())
        return digest.hexdigest()[:16]


def _once(ids: Iterator[str], what: str, title: str) -> set[str]:
    found: set[str] = set()
    for one in ids:
        if one in found:
            raise DataError(f"two {what} of {title} have the id {one!r}; give each its own")
        found.add(one)
    return found


def pairs_of_documents(documents: Sequence[Document]) -> list[Pair]:
    """A pair of each document that has two parts: its title asks for its text; without a title its
    first sentence asks for what follows.
    """
    found = []
    for one in documents:
        asked, rest = one.title, one.text
        if not asked:
            asked, *others = SENTENCE.split(one.text.strip(), maxsplit=1)
            rest = others[0] if others else ""
        if _has_words(asked) and _has_words(rest):
            found.append(Pair(asked, rest))
    return found


def _has_words(text: str) -> bool:
    return any(sign.isalnum() for sign in text)
