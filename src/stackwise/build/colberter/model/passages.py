"""Long texts, cut into passages at the ends of sentences, each of which begins with the last
sentence of the one before it where that is short. A document scores as its best passage.
"""

import re
from collections.abc import Callable

ENDS = re.compile(r"(?<=[.!?])\s+|\n+")


def passages_of(text: str, most: int, count: Callable[[list[str]], list[int]]) -> list[str]:
    """The passages of a text.

    Args:
        most: tokens of a passage. A sentence that is longer by itself is cut at words.
        count: the tokens of each of some texts.

    Returns:
        The text itself where it is short enough.
    """
    if len(text) <= most or count([text])[0] <= most:  # no token is shorter than a sign
        return [text]
    sentences = [one for one in ENDS.split(text) if any(sign.isalnum() for sign in one)]
    sizes = count(sentences)
    parts: list[tuple[str, int]] = []
    for sentence, size in zip(sentences, sizes, strict=True):
        parts += [(sentence, size)] if size <= most else _cut(sentence, most, count)
    found: list[str] = []
    own: list[tuple[str, int]] = []
    for part in parts:
        if own and sum(size for _, size in own) + part[1] > most:
            found.append(" ".join(words for words, _ in own))
            own = own[-1:] if own[-1][1] <= most // 4 and own[-1][1] + part[1] <= most else []
        own.append(part)
    return [*found, " ".join(words for words, _ in own)] if own else found or [text]


def _cut(
    sentence: str, most: int, count: Callable[[list[str]], list[int]]
) -> list[tuple[str, int]]:
    """A long sentence in pieces of whole words."""
    words = sentence.split()
    found: list[tuple[str, int]] = []
    start, step = 0, max(most // 2, 1)
    while start < len(words):
        piece = " ".join(words[start : start + step])
        found.append((piece, min(count([piece])[0], most)))
        start += step
    return found
