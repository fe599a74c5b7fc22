"""Annotated pictures of a source, before a picture is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stackwise.errors import DataError
from stackwise.tasks.detection.boxes import Boxes
from stackwise.tasks.labelled.found import Found, count, objects, some

ANNOTATED = "annotated picture"


@dataclass
class Gathered:
    """Pictures and what is said of them, while a source is read.

    Attributes:
        contents: a path or bytes of each. boxes: of each; in YOLO's way, shares of the sides, where
            `shares` says so. parts: of each, or None. group: that keeps pictures together, or None.
        ids: that the source gives its pictures. categories: numbers of its classes, by name.
    """

    contents: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    parts: list[str | None] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)
    categories: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    shares: bool = False

    def add(self, content: Any, name: str, boxes: Any, part: str | None, id_: Any = None) -> None:
        """One more picture."""
        self.contents.append(content)
        self.names.append(name)
        self.boxes.append(boxes)
        self.parts.append(part)
        self.ids.append(len(self.ids) + 1 if id_ is None else id_)

    def found(self, what: Any) -> Found:
        """What was gathered.

        Raises:
            DataError: nothing was, or some pictures have a part and others have none.
        """
        if not self.contents:
            raise DataError(f"{what} annotates no picture that is there")
        known = [part is not None for part in self.parts]
        if any(known) and not all(known):
            lacking = self.names[known.index(False)]
            raise DataError(f"{what} parts its pictures, but {lacking} is in no part")
        import pandas as pd

        columns = pd.DataFrame({"id": objects(self.ids)})
        made = Found(
            self.contents, self.names, objects(self.boxes),
            objects(self.parts) if all(known) else None, columns, self.notes,
        )  # fmt: skip
        made.columns.attrs["categories"] = self.categories
        return made


def boxes_of(
    rows: Sequence[Sequence[float]], labels: Sequence[str], crowd: Sequence[bool]
) -> Boxes:
    """Boxes from rows of x1, y1, x2, y2."""
    return Boxes(
        np.array(rows, np.float32).reshape(-1, 4), objects(labels), np.array(crowd, bool)
    )  # fmt: skip


def first_there(places: Sequence[Path]) -> Path | None:
    """The first of some paths that is a file."""
    return next((place for place in places if place.is_file()), None)


def lacking_note(lacking: Sequence[str]) -> list[str]:
    """A sentence about pictures that are named and are not there."""
    if not lacking:
        return []
    are = "is" if len(lacking) == 1 else "are"
    return [f"{count(len(lacking), ANNOTATED)} {are} not there and {are} left out: {some(lacking)}"]
