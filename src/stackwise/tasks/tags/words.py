"""Words of a text and the places where they stand in it, character by character.

    words_of("Don&#039;t take Xanax.").tokens      Don ' t take Xanax .

A run of letters, digits and underscores is a word, and whatever else is no space is one by itself;
a combining mark belongs to the character before it. An HTML entity counts as what it stands for,
and its place is all of it, so that `text[start:end]` is always what was read.
"""

import html
import re
import unicodedata
from dataclasses import dataclass

ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


@dataclass(frozen=True)
class Words:
    """The words of a text.

    Attributes:
        tokens: as they read, HTML entities as the characters that they stand for.
        places: of each, where it begins in the text and where it ends.
    """

    tokens: list[str]
    places: list[tuple[int, int]]


def words_of(text: str) -> Words:
    """The words of a text and their places."""
    tokens: list[str] = []
    places: list[tuple[int, int]] = []
    inside = False  # a word, to which a letter would belong
    touches = False  # something stands right before
    for shown, start, end in _characters(text):
        mark = unicodedata.category(shown[0])[0] == "M"
        letter = shown[0].isalnum() or shown[0] == "_"
        if shown.isspace():
            inside = touches = False
            continue
        if (inside and letter) or (touches and mark):
            tokens[-1] += shown
            places[-1] = (places[-1][0], end)
        else:
            tokens.append(shown)
            places.append((start, end))
            inside = letter
        touches = True
    return Words(tokens, places)


def written(tokens: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """Tokens as a text with a space between each two, and their places in it."""
    places, start = [], 0
    for token in tokens:
        places.append((start, start + len(token)))
        start += len(token) + 1
    return " ".join(tokens), places


def key_of(token: str) -> str:
    """What a word is looked up by: HTML entities as they read, composed, in lower case."""
    read = html.unescape(token) if "&" in token else token
    return unicodedata.normalize("NFC", read).casefold()


def _characters(text: str) -> "list[tuple[str, int, int]]":
    """What each character, or HTML entity, reads as, and its place."""
    found: list[tuple[str, int, int]] = []
    last = 0
    for match in ENTITY.finditer(text) if "&" in text else ():
        read = html.unescape(match[0])
        if read == match[0]:
            continue  # no entity that is known
        found += [(text[at], at, at + 1) for at in range(last, match.start())]
        found.append((read, match.start(), match.end()))
        last = match.end()
    return found + [(text[at], at, at + 1) for at in range(last, len(text))]
