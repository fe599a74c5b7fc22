"""How a corpus is known before it is read."""

from typing import Any

from stackwise.marks import ending, first_record, holds, is_named

ENDINGS = (".txt", ".md", ".text", ".rst")
"""Files that are text; in a folder others are left alone."""


def recognises(source: Any) -> float:
    """A named text surely; text files, and lines of JSON that have a text and nothing more."""
    texts = isinstance(source, (list, tuple)) and all(isinstance(text, str) for text in source)
    if is_named(source, "text") or (texts and source):
        return 1.0
    if ending(source) in ENDINGS or holds(source, ENDINGS):
        return 0.7
    return 0.7 if set(first_record(source)) == {"text"} else 0.0
