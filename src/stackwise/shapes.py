"""What a JSON file must hold to be read: its shape, and where a value does not have it.

    misfit({"winner": {"slug": 3}}, {"winner": {"slug": str, "folder": str}})
    -> "'winner.slug' is a number, not a text"

A file that we read may be cut off, of another program or of a stranger, so that each is held to
its shape before anything is looked up in it.
"""

from collections.abc import Mapping
from typing import Any

Shape = type | None | tuple[Any, ...] | list[Any] | Mapping[str, Any]
"""A type (`object` is any), None, a tuple of shapes of which one fits, a list with the shape of its
items, or a table.

Of a table the keys that it names are there, but for those that end in `?`; the shape under `*` is
that of every value. Other keys are allowed: a newer version may have written them.
"""
NUMBER = (float, int)
SCORE = (float, int, None)
"""A number, or null where it was not a number."""
NAMES: dict[type, str] = {
    dict: "a table", list: "a list", str: "a text", int: "a whole number", float: "a number",
    bool: "true or false", type(None): "null",
}  # fmt: skip


def misfit(value: Any, shape: Shape, at: str = "") -> str | None:
    """Where a value that was read from JSON is not of `shape`, in words; None where it is."""
    if shape is object:
        return None
    match shape:
        case tuple():
            found = [misfit(value, one, at) for one in shape]
            return None if None in found else found[0]
        case list():
            return _of_items(value, shape[0], at)
        case Mapping():
            return _of_table(value, shape, at)
        case None:
            return None if value is None else _said(value, "null", at)
    whole = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
    return None if whole else _said(value, NAMES[shape], at)


def _of_items(value: Any, shape: Shape, at: str) -> str | None:
    if not isinstance(value, list):
        return _said(value, NAMES[list], at)
    found = (misfit(item, shape, f"{at}[{place}]") for place, item in enumerate(value))
    return next(filter(None, found), None)


def _of_table(value: Any, shape: Mapping[str, Any], at: str) -> str | None:
    if not isinstance(value, dict):
        return _said(value, NAMES[dict], at)
    within = f"{at}." if at else ""
    for key, inner in shape.items():
        name = key.removesuffix("?")
        if key == "*":
            found = (misfit(item, inner, f"{within}{own}") for own, item in value.items())
            wrong = next(filter(None, found), None)
        elif name in value:
            wrong = misfit(value[name], inner, f"{within}{name}")
        else:
            wrong = None if key != name else f"it has no {within + name!r}"
        if wrong is not None:
            return wrong
    return None


def _said(value: Any, wanted: str, at: str) -> str:
    subject = repr(at) if at else "it"
    found = "a number" if type(value) is int else NAMES.get(type(value), type(value).__name__)
    return f"{subject} is {found}, not {wanted}"
