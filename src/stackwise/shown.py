"""Text that came out of data, as a person is shown it: on one terminal, in a page, in an error.

A column's name or a cell may hold anything: escape sequences that colour or clear a terminal, marks
that turn the reading direction round, NUL, line breaks, a megabyte. It is shown escaped, as Python
would write it, and cut in the middle of a sentence.
"""

import re

LONGEST = 120
"""Characters of a quoted cell in a sentence; a longer one keeps `KEPT` of them."""
KEPT = 80
SENTENCE = 2000
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_LINES = re.compile("[\t\n]")
_QUOTED = re.compile(rf"""(?<![^\s([{{,:=])(['"])(?=(.{{{LONGEST},}}?)\1(?!\w))""", re.DOTALL)
_RUN = re.compile(r"\S{400,}")


def shown(text: object, *, lines: bool = False) -> str:
    """`text` with control characters and marks of direction escaped; also tabs and line ends,
    unless `lines`.
    """
    found = _CONTROL.sub(_escaped, str(text))
    return found if lines else _LINES.sub(_escaped, found)


def cut(text: str, most: int = KEPT) -> str:
    """The beginning of a text that is longer than `most`, and how long it is."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def sentence(text: str) -> str:
    """An error or a note on one line: what it quotes is cut, and nothing in it moves a cursor."""
    text = shown(_LINES.sub(" ", cut(text, 10 * SENTENCE)))
    pieces, at = [], 0
    while (found := _QUOTED.search(text, at)) is not None:
        begin, end = found.start(2), found.end(2)
        pieces += [text[at:begin], text[begin : begin + KEPT], f"... ({end - begin:,} characters)"]
        at = end
        pieces.append(text[at])
        at += 1
    text = "".join(pieces) + text[at:]
    return cut(_RUN.sub(lambda run: cut(run[0], 200), text), SENTENCE)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
