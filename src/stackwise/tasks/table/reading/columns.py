"""What a column of a table holds, as a record that a model carries along, and as a sentence.

A column is a number, a category, a boolean, a date or free text; or it is left out because it is
empty, constant, an identifier, or equal to an earlier column. `infer_columns` finds it out.
"""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

Kind = Literal[
    "number", "category", "boolean", "date", "text", "identifier", "constant", "duplicate", "empty"
]
USED: tuple[Kind, ...] = ("number", "category", "boolean", "date", "text")


@dataclass
class Column:
    """One column of the input.

    Attributes:
        name: its header.
        kind: what it holds, or why it is left out.
        detail: what reading it again needs, and what was counted; plain JSON.
    """

    name: str
    kind: Kind
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def used(self) -> bool:
        """Whether a model sees it."""
        return self.kind in USED

    @cached_property
    def places(self) -> dict[Any, int]:
        """The code of each level of a category, or of each bucket that training filled."""
        known = self.detail["filled" if self.detail.get("buckets") else "levels"]
        return {level: code for code, level in enumerate(known)}

    def as_dict(self) -> dict[str, Any]:
        """The column as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Column":
        """The inverse of `as_dict`."""
        return cls(record["name"], record["kind"], dict(record["detail"]))

    def report(self) -> dict[str, str]:
        """What a person is shown: `column`, `kind` and `done`, a sentence."""
        return {"column": self.name, "kind": self.kind, "done": _sentence(self)}


def _sentence(column: Column) -> str:
    detail = column.detail
    if column.kind == "number":
        parts = ["used as a number"]
        if detail.get("marks"):
            parts.append(f"read without {', '.join(detail['marks'])}")
        if detail.get("decimal") == ",":
            parts.append("decimal comma")
        if detail.get("open"):
            parts.append("the comma could be read the other way")
    elif column.kind == "category":
        parts = [f"{len(detail['levels'])} categories"]
        if detail.get("buckets"):
            parts = [f"{detail['distinct']} categories share {detail['buckets']} codes by hash"]
        if detail["other"]:
            parts.append(f"{detail['other']} rare ones become one more")
        if detail.get("separator"):
            parts.append(f"up to {detail['slots']} in a row, parted by {detail['separator']!r}")
    elif column.kind == "boolean":
        parts = ["used as no or yes"]
    elif column.kind == "date":
        parts = [f"becomes {', '.join(detail['parts'])}"]
        if detail.get("format"):
            parts.append(f"read as {detail['format']}")
        if detail.get("ambiguous"):
            parts.append("day and month could be the other way round")
    elif column.kind == "text":
        parts = [f"becomes {detail['width']} hashed word counts"]
    else:
        return f"dropped: {detail['why']}"
    for count, what in (
        ("missing", "missing"),
        ("infinite", "infinite, treated as missing"),
        ("unreadable", "unreadable, treated as missing"),
    ):
        if detail.get(count):
            parts.append(f"{detail[count]:,} {what}")
    return "; ".join(parts)
