"""Sentences as they are learned from: their tokens, where these stand, and the names among them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash

from stackwise.errors import DataError
from stackwise.tasks.tags.schemes import Scheme, Span, scheme_of, spans_of
from stackwise.tasks.tags.words import key_of, written


@dataclass(frozen=True)
class Sentence:
    """A sentence, or any stretch of words that is tagged by itself.

    Attributes:
        tokens: its words. text: in which they stand. places: where each does.
        spans: the names; None where it is not tagged.
    """

    tokens: list[str]
    text: str
    places: list[tuple[int, int]] = field(repr=False)
    spans: list[Span] | None = None

    @classmethod
    def of_tokens(cls, tokens: Sequence[str], spans: list[Span] | None = None) -> "Sentence":
        """Of tokens alone: the text has a space between each two."""
        text, places = written(list(tokens))
        return cls(list(tokens), text, places, spans)

    @property
    def hash(self) -> int:
        """Equal where the tokens are."""
        return xxhash.xxh3_64_intdigest("\0".join(self.tokens).encode())


def surface(tokens: Sequence[str], span: tuple[int, int, str]) -> str:
    """A name as it is compared: its words in lower case."""
    return " ".join(key_of(token) for token in tokens[span[0] : span[1]])


def check_sentences(X: Any) -> list[list[str]]:
    """Lists of tokens.

    Raises:
        DataError: they are something else; the sentence says which.
    """
    if isinstance(X, str) or not isinstance(X, Iterable):
        raise DataError(
            f"sentences are lists of words, and this is a {type(X).__name__}; entities(text) takes "
            "a text"
        )
    found = []
    for number, row in enumerate(X, start=1):
        if isinstance(row, str) or not isinstance(row, Iterable):
            raise DataError(
                f"sentence {number} is a {type(row).__name__}, not a list of words; entities(text) "
                "takes a text"
            )
        tokens = list(row)
        odd = next((one for one in tokens if not isinstance(one, str)), None)
        if odd is not None:
            raise DataError(f"sentence {number} holds {odd!r}, which is no text")
        found.append(tokens)
    return found


def check_tagged(X: Any, y: Any) -> tuple[list[list[str]], list[list[Span]], Scheme]:
    """Sentences and their names, of tokens and tags, or of a frame with a row a token
    (`sentence_id`, `token`, `tag`).

    Raises:
        DataError: there is none, or one has not a tag for each token, or a tag is none.
    """
    if y is None and hasattr(X, "columns"):
        X, y = _of_frame(X)
    if y is None:
        raise DataError("there are no tags: give fit(sentences, tags), or a loaded task")
    sentences = check_sentences(X)
    tags = [[str(tag) for tag in row] for row in y]
    if len(sentences) != len(tags):
        raise DataError(f"there are {len(sentences)} sentences and {len(tags)} rows of tags")
    if not sentences:
        raise DataError("there are no sentences (0 sample(s)); at least 1 is needed")
    for number, (words, row) in enumerate(zip(sentences, tags, strict=True), start=1):
        check_lengths(words, row, f"sentence {number}")
    scheme = scheme_of(tags)
    spans = [
        spans_of(row, scheme, f"sentence {number}") for number, row in enumerate(tags, start=1)
    ]
    return sentences, spans, scheme


def check_lengths(tokens: Sequence[str], tags: Sequence[str], where: str) -> None:
    """Refuse a sentence with more or fewer tags than tokens.

    Raises:
        DataError: that is so.
    """
    if len(tokens) != len(tags):
        raise DataError(f"{where} has {len(tokens)} tokens but {len(tags)} tags")


def _of_frame(frame: Any) -> tuple[list[list[str]], list[list[str]]]:
    """Tokens and tags of a frame that has a row a token."""
    columns = [str(name) for name in frame.columns]
    lacking = [name for name in ("sentence_id", "token", "tag") if name not in columns]
    if lacking:
        raise DataError(
            f"a frame of tagged tokens has the columns sentence_id, token and tag, and this lacks "
            f"{lacking[0]} (it has {', '.join(columns[:6])})"
        )
    sentences: dict[Any, tuple[list[str], list[str]]] = {}
    rows = zip(*(list(frame[name]) for name in ("sentence_id", "token", "tag")), strict=True)
    for key, token, tag in rows:
        tokens, tags = sentences.setdefault(key, ([], []))
        tokens.append(str(token))
        tags.append(str(tag))
    found = list(sentences.values())
    return [tokens for tokens, _ in found], [tags for _, tags in found]
