"""A field that is to be read as text, as text: never a number, a list or nothing in words."""

from collections.abc import Mapping
from typing import Any

from stackwise.errors import DataError

LONGEST = 60
"""Characters of a value that a sentence shows."""


def text_of(value: Any, what: str) -> str:
    """The text of a field: a string, or the parts of one, `[{"type": "text", "text": ...}]`.

    Args:
        what: is read, for what is said of it: `the 'response' of sample 3`.

    Raises:
        DataError: it is something else, which might be written as text in more than one way.
    """
    if isinstance(value, (list, tuple)):
        return "".join(_part(part, what) for part in value)
    if value is None or value != value:
        raise DataError(f"{what} is missing; give text")
    if not isinstance(value, str):
        raise DataError(f"{what} is {_called(value)} and no text; write it as text, in quotes")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{what} holds half a character (a lone surrogate)") from None
    return value


def is_given(value: Any) -> bool:
    """Whether a field holds something: a blank cell and a missing value do not."""
    return value is not None and value == value and not (isinstance(value, str) and not value)


def _part(part: Any, what: str) -> str:
    if not isinstance(part, Mapping):
        raise DataError(
            f'{what} is a list with {_called(part)} in it; give text, or parts {{"type": "text", '
            '"text": ...}'
        )
    kind = part.get("type")
    if kind != "text":
        named = f"of type {kind!r}" if isinstance(kind, str) else "without a type"
        raise DataError(f"{what} has a part {named}; only parts of type 'text' are read")
    return text_of(part.get("text"), f"the text of a part of {what}")


def _called(value: Any) -> str:
    """What a value is, in words, and the value where it is short."""
    shown = repr(value)
    shown = shown if len(shown) <= LONGEST else shown[: LONGEST - 3] + "..."
    if isinstance(value, bool):
        return f"the truth value {shown}"
    if isinstance(value, (int, float)):
        return f"the number {shown}"
    kind = {"dict": "an object", "list": "a list", "bytes": "bytes", "str": "the text"}
    return f"{kind.get(type(value).__name__, 'a ' + type(value).__name__)} ({shown})"
