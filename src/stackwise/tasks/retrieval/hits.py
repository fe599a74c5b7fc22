"""What a search found: documents with their scores, as lines, as JSON and as a page."""

from collections.abc import Mapping
from typing import Any

from stackwise.tasks.retrieval.collection import Document

SHOWN = 160
"""Characters of a text that a line shows."""


class Hit(dict[str, Any]):
    """A document that was found: `rank`, `id`, `score`, `title`, `text`, `fields`, and where it was
    asked for `words`, what each word of the query found in it.
    """

    def __str__(self) -> str:
        text = " ".join(f"{self['title']} {self['text']}".split())
        shown = text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
        lines = [f"{self['rank']:>3}  {self['score']:.4f}  {self['id']}  {shown}"]
        for row in self.get("words", ()):
            lines.append(
                f"        {row['score']:+.4f}  {row['query_word']} -> {row['document_word']}"
            )
        return "\n".join(lines)


def hit(rank: int, score: float, document: Document, more: Mapping[str, Any] | None = None) -> Hit:
    """A hit of a document."""
    return Hit({"rank": rank, "score": float(score)} | document.as_dict() | dict(more or {}))


class Hits(list[Hit]):
    """The hits of a query, the best first.

    Attributes:
        query: what was asked.
    """

    def __init__(self, query: str, found: list[Hit]) -> None:
        super().__init__(found)
        self.query = query

    @property
    def ids(self) -> list[str]:
        """The ids of the documents."""
        return [one["id"] for one in self]

    @property
    def scores(self) -> list[float]:
        """Their scores."""
        return [one["score"] for one in self]
