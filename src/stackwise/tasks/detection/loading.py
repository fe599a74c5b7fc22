"""Bring annotated pictures in as a task: find them, check their boxes, cut tiles, part them."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from stackwise.errors import DataError
from stackwise.protocols import Part
from stackwise.tasks.detection.boxes import Boxes
from stackwise.tasks.detection.estimators.estimator import classes_of
from stackwise.tasks.detection.reading.checking import as_boxes, checked_boxes
from stackwise.tasks.detection.reading.find import find_annotated
from stackwise.tasks.detection.reading.scenes import Scenes, read_scenes
from stackwise.tasks.detection.reading.tiles import cut_into_tiles
from stackwise.tasks.detection.reading.yolo import in_pixels
from stackwise.tasks.images.loading import bytes_of
from stackwise.tasks.images.marks import PICTURE
from stackwise.tasks.images.reading.loading import told_broken
from stackwise.tasks.labelled.found import Found, objects
from stackwise.tasks.labelled.options import check_max_rows, kept_options
from stackwise.tasks.labelled.parting import Parting, parts_of_rows, with_own_parts
from stackwise.tasks.labelled.repeats import repeated_across
from stackwise.tasks.labelled.split import thin

_DEFAULTS = {
    "validation": 0.2, "test": 0.2, "split_seed": 0, "memory": "1GiB", "bad": "error",
    "tile_keep": 0.4,
}  # fmt: skip
FEWEST_PICTURES = 5
"""With fewer pictures than this their tiles are parted, and a note says so."""
WHOLE = "whole picture"
"""The column of the picture of which a tile is."""


@dataclass(frozen=True)
class Choices(Parting):
    """What a user says beside the source; see `DetectionTask.load`."""

    image_size: int | None
    tile: int | None
    tile_keep: float
    memory: str
    bad: Literal["error", "skip"]

    def as_options(self) -> dict[str, Any]:
        """The options that differ from their defaults, as JSON, for repeating the load."""
        names = ("validation", "test", "max_rows", "split_seed", "image_size", "tile", "tile_keep",
                 "memory", "bad")  # fmt: skip
        return kept_options({name: getattr(self, name) for name in names}, _DEFAULTS)


@dataclass
class LoadedBoxes:
    """Annotated pictures that were read and parted.

    Attributes:
        scenes: all of them. boxes: of each. rows: of each part, their numbers.
        classes: of the training part's boxes, sorted.
    """

    scenes: Scenes
    boxes: list[Boxes]
    rows: dict[Part, np.ndarray]
    classes: np.ndarray
    notes: list[str] = field(default_factory=list)


def load_parts(source: Any, choices: Choices) -> LoadedBoxes:
    """Read annotated pictures and part them.

    Raises:
        DataError: one sentence about what cannot be used, and what would be right.
    """
    check_max_rows(choices.max_rows)
    if choices.tile is not None and choices.tile < 32:
        raise DataError(f"--tile {choices.tile} is below 32 pixels")
    first = _in_pixels_later(find_annotated(source))

    def find(other: Any, target: str | None) -> Found:
        return _in_pixels_later(find_annotated(other))

    found, shares = with_own_parts(first, choices, find)
    notes = [*found.notes]
    scenes, broken = read_scenes(found.samples, found.names, memory=bytes_of(choices.memory))
    notes += told_broken(broken, len(found), choices.bad)
    good = np.array([row for row in range(len(found)) if row not in broken], dtype=np.int64)
    scenes = scenes.only(good)
    assert found.labels is not None
    given = [_sized(found.labels[row], size, name)
             for row, size, name in zip(good, scenes.sizes, scenes.names)]  # fmt: skip
    boxes = checked_boxes(given, scenes.sizes, scenes.names, notes)
    frame = found.columns.iloc[good].reset_index(drop=True)
    if choices.tile is not None:
        scenes, boxes, wholes, said = cut_into_tiles(scenes, boxes, choices.tile, choices.tile_keep)
        notes += said
        frame = frame.iloc[wholes].reset_index(drop=True).assign(**{WHOLE: wholes})
        good = good[wholes]
        choices = _by_picture(choices, wholes, found.parts is not None, notes)
    classes_now = np.array([len(one.objects.labels) > 0 for one in boxes], dtype=np.int64)
    if not classes_now.any():
        raise DataError("no picture has a box; there is nothing to learn")
    parts = parts_of_rows(found, frame, good, classes_now, choices, shares)
    thin(parts, choices.max_rows, choices.split_seed)
    notes += parts.notes
    rows: dict[Part, np.ndarray] = {
        "train": parts.train, "validation": parts.validation, "test": parts.test
    }  # fmt: skip
    _check_parts(rows, boxes)
    classes = classes_of([boxes[row] for row in parts.train])
    notes += _strange(rows, boxes, classes)
    notes += repeated_across(
        scenes.hashes, {str(part): of for part, of in rows.items()}, scenes.names,
        what=PICTURE, alike="pixel for pixel",
    )  # fmt: skip
    return LoadedBoxes(scenes, boxes, rows, classes, notes)


@dataclass(frozen=True)
class _Shares:
    """Boxes that are shares of a picture's sides, until its size is known."""

    boxes: Any


def _in_pixels_later(found: Found) -> Found:
    if found.columns.attrs.get("shares"):
        assert found.labels is not None
        found.labels = objects(_Shares(one) for one in found.labels)
    return found


def _sized(one: Any, size: tuple[int, int], name: str) -> Any:
    return in_pixels(one.boxes, size) if isinstance(one, _Shares) else as_boxes(one, name)


def _by_picture(choices: Choices, wholes: np.ndarray, parted: bool, notes: list[str]) -> Choices:
    """The tiles of a picture stay together, where there are enough pictures."""
    from dataclasses import replace

    if parted:
        return choices
    count = len(np.unique(wholes))
    if count < FEWEST_PICTURES:
        notes.append(
            f"the source has {count} pictures, too few to keep the tiles of each in one part: "
            "tiles are parted, which share no pixel"
        )
        return choices
    notes.append(f"the tiles of each of {count:,} pictures are in one part")
    return replace(choices, group=WHOLE)


def _check_parts(rows: dict[Part, np.ndarray], boxes: list[Boxes]) -> None:
    for part, of in rows.items():
        if not any(len(boxes[row].objects.labels) for row in of):
            raise DataError(
                f"the {part} part has {len(of):,} pictures and no box in them; give more pictures, "
                "or another share"
            )


def _strange(rows: dict[Part, np.ndarray], boxes: list[Boxes], classes: np.ndarray) -> list[str]:
    """A sentence for each held-out part with boxes of a class that training lacks."""
    notes, known = [], set(classes.tolist())
    for part, of in rows.items():
        labels = [label for row in of for label in boxes[row].labels if label not in known]
        if labels:
            named = ", ".join(sorted(map(str, set(labels)))[:5])
            notes.append(
                f"the {part} part has boxes of classes without training boxes: {named} "
                f"({len(labels):,} boxes), which count as never found"
            )
    return notes
