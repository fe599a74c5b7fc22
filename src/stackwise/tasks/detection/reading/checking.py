"""Check the boxes of pictures before anything is learned from them.

no number, or x2 < x1            refused: the picture and the box are named
outside of the picture in part   cut at its border, and counted
wholly outside, or without size  left out, and counted
the same box with the same label more than once in a picture: once, and counted
no box in a picture              allowed: all of it is background
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stackwise.errors import DataError
from stackwise.tasks.detection.boxes import Boxes
from stackwise.tasks.labelled.found import count, objects

OUTSIDE = "wholly outside of their picture"
CUT = "cut at the border of their picture"
FEW = 10
"""Of fewer boxes it is no sign of anything that most stand out of their pictures."""
SLACK = 1.0
"""Pixels by which a box may stand out of its picture before it is counted: annotation tools count
pixels from 0 or from 1."""


def as_boxes(one: Any, name: str) -> Boxes:
    """The boxes of a picture, as a user gives them.

    Args:
        one: a pair (boxes, labels), a mapping with these, or `Boxes`. name: of the picture.

    Raises:
        DataError: it is neither, or there are more boxes than labels.
    """
    if isinstance(one, Boxes):
        return one
    if isinstance(one, Mapping) and {"boxes", "labels"} <= set(one):
        boxes, labels = one["boxes"], one["labels"]
    elif isinstance(one, (tuple, list)) and len(one) == 2:
        boxes, labels = one
    else:
        raise DataError(
            f"what {name} holds is a pair of boxes (n, 4) and labels (n,), not a "
            f"{type(one).__name__}"
        )
    try:
        found = np.asarray(boxes, dtype=np.float32)
    except (TypeError, ValueError):
        raise DataError(f"the boxes of {name} are no numbers") from None
    found = found.reshape(0, 4) if found.size == 0 else found
    if found.ndim != 2 or found.shape[1] != 4:
        raise DataError(f"the boxes of {name} are (n, 4), not {found.shape}")
    named = objects(as_label(label) for label in np.asarray(labels).ravel().tolist())
    if len(named) != len(found):
        raise DataError(f"{name} has {count(len(found), 'box')[:-3]}boxes and {len(named)} labels")
    return Boxes(found, named, np.zeros(len(found), bool))


def as_label(label: Any) -> Any:
    """A class as a text or a whole number."""
    if isinstance(label, (bool, np.bool_)) or not isinstance(label, (int, np.integer, str)):
        return str(label)
    return label if isinstance(label, str) else int(label)


class BoxChecks:
    """Checks the boxes of pictures, one after the other, and counts what was mended."""

    def __init__(self) -> None:
        self.total = 0
        self.cut: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def checked(self, of: Boxes, size: tuple[int, int], name: str) -> Boxes:
        """The boxes that can be used.

        Args:
            size: (height, width) of the picture.

        Raises:
            DataError: a box is no box.
        """
        boxes = np.asarray(of.boxes, dtype=np.float32)
        wrong = ~np.isfinite(boxes).all(1) | (boxes[:, 2:] < boxes[:, :2]).any(1)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"box {row + 1} of {name} is {said(boxes[row])}; a box is x1, y1, x2, y2 with "
                "x1 < x2 and y1 < y2"
            )
        self.total += len(boxes)
        height, width = size
        limits = np.array([width, height, width, height], np.float32)
        within = np.clip(boxes, 0, limits)
        solid = (within[:, 2:] > within[:, :2]).all(1)
        empty = (boxes[:, 2:] == boxes[:, :2]).any(1)
        out = (np.abs(within - boxes) > SLACK).any(1)
        self._count("without size", empty, name)
        self._count(OUTSIDE, ~solid & ~empty, name)
        self._count(CUT, out & solid, name)
        _, kept = np.unique(
            np.concatenate([within, _codes(of.labels)[:, None]], axis=1), axis=0, return_index=True
        )
        once = np.zeros(len(boxes), bool)
        once[kept] = True
        self._count("given twice", ~once & solid, name)
        rows = np.flatnonzero(solid & once)
        return Boxes(within[rows], of.labels[rows], np.asarray(of.crowd, bool)[rows])

    def _count(self, what: str, rows: np.ndarray, name: str) -> None:
        number = int(rows.sum())
        if number:
            self.cut[what] += number
            self.first.setdefault(what, name)

    @property
    def standing_out(self) -> int:
        """Boxes that are not within their picture."""
        return self.cut[OUTSIDE] + self.cut[CUT]

    @property
    def first_out(self) -> str:
        """The first picture with such a box."""
        return self.first.get(OUTSIDE) or self.first[CUT]

    @property
    def notes(self) -> list[str]:
        """A sentence about each kind of what was mended."""
        done = {CUT: ""}
        return [
            f"{number:,} {'box is' if number == 1 else 'boxes are'} {what}"
            f"{done.get(what, ': left out')}, the first in {self.first[what]}"
            for what, number in self.cut.items()
        ]


def checked_boxes(
    given: Sequence[Any], sizes: Iterable[tuple[int, int]], names: Sequence[str], notes: list[str]
) -> list[Boxes]:
    """The boxes of all pictures; sentences about what was mended go to `notes`.

    Raises:
        DataError: a box is no box.
    """
    checks = BoxChecks()
    found = [
        checks.checked(as_boxes(one, name), size, name)
        for one, size, name in zip(given, sizes, names, strict=True)
    ]
    standing, total = checks.standing_out, checks.total
    if total >= FEW and standing > total / 2:
        raise DataError(
            f"{standing:,} of {total:,} boxes stand out of their pictures, the first in "
            f"{checks.first_out}; look whether they are x, y, width, height where corners are "
            "meant, or the other way round, or are of pictures of another size"
        )
    notes += checks.notes
    return found


def said(box: Iterable[float]) -> str:
    """A box in a sentence."""
    return "(" + ", ".join(f"{float(value):g}" for value in box) + ")"


def _codes(labels: np.ndarray) -> np.ndarray:
    known: dict[Any, int] = {}
    return np.array([known.setdefault(label, len(known)) for label in labels], np.float32)
