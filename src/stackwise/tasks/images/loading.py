"""Bring pictures in as a task: find them, part them, bring them to one size."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from stackwise.errors import DataError, KnobError, nearest
from stackwise.files import plain
from stackwise.protocols import Part
from stackwise.tasks.images.reading.find import find_pictures
from stackwise.tasks.images.reading.found import Found
from stackwise.tasks.images.reading.holding import Pictures
from stackwise.tasks.images.reading.loading import load_pictures
from stackwise.tasks.images.reading.repeats import repeated_across
from stackwise.tasks.labelled.options import check_max_rows, kept_options, share_of
from stackwise.tasks.labelled.split import How, Parts, split_parts, thin
from stackwise.tasks.labelled.task import classes_of

PART = "part"
"""The column of a frame that parts rows, where the source names parts."""
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_DEFAULTS = {
    "validation": 0.2, "test": 0.2, "split_seed": 0, "memory": "2GiB", "bad": "error",
}  # fmt: skip


@dataclass(frozen=True)
class Choices:
    """What a user says beside the source; see `ImagesTask.load`."""

    target: str | None
    group: str | None
    validation: Any
    test: Any
    max_rows: int | None
    split_seed: int
    image_size: Any
    channels: Literal[1, 3] | None
    memory: str
    bad: Literal["error", "skip"]

    def as_options(self, metric: str | None) -> dict[str, Any]:
        """The options that differ from their defaults, as JSON, for repeating the load."""
        given = {
            "target": self.target, "group": self.group, "validation": self.validation,
            "test": self.test, "metric": metric, "max_rows": self.max_rows,
            "split_seed": self.split_seed, "image_size": self.image_size,
            "channels": self.channels, "memory": self.memory, "bad": self.bad,
        }  # fmt: skip
        return kept_options(given, _DEFAULTS)


@dataclass
class Loaded:
    """Pictures that were read and parted.

    Attributes:
        parts: pictures and labels of each part. classes: of the training part, sorted.
        groups: by row, what keeps rows together. names: of all pictures, by row.
    """

    parts: dict[Part, tuple[Pictures, np.ndarray]]
    classes: np.ndarray
    groups: pd.Series | None
    names: list[str]
    notes: list[str] = field(default_factory=list)


def load_parts(source: Any, choices: Choices) -> Loaded:
    """Read pictures and part them.

    Raises:
        DataError: one sentence about what cannot be used, and what would be right.
    """
    check_max_rows(choices.max_rows)
    found, shares = _with_own_parts(find_pictures(source, target=choices.target), choices)
    notes = [*found.notes]
    known = np.array([label is not None for label in _labels(found)])
    if not known.all():
        notes.append(f"{int((~known).sum()):,} pictures without a label are left out")
    pictures, good, said = load_pictures(
        found, choices.image_size, choices.channels, memory=bytes_of(choices.memory),
        bad=choices.bad,
    )  # fmt: skip
    notes += said
    rows = np.flatnonzero(known[good])
    pictures, good = pictures.only(rows), good[rows]
    y = _as_classes(_labels(found)[good])
    if len(np.unique(y)) < 2:
        raise DataError(f"all pictures are of one class ({y[0]}); at least two are needed")
    frame = found.columns.iloc[good].reset_index(drop=True)
    parts = _parts(found, frame, good, y, choices, shares)
    thin(parts, choices.max_rows, choices.split_seed)
    notes += parts.notes
    rows_of: dict[Part, np.ndarray] = {
        "train": parts.train, "validation": parts.validation, "test": parts.test
    }  # fmt: skip
    made = {part: (pictures.only(rows), y[rows]) for part, rows in rows_of.items()}
    classes = classes_of(made, notes)
    if len(classes) < 2:
        raise DataError(f"the training part holds one class ({classes[0]}); split otherwise")
    notes += repeated_across(
        pictures.hashes, {str(part): rows for part, rows in rows_of.items()},
        [found.names[row] for row in good],
    )  # fmt: skip
    groups = None
    if choices.group is not None:
        groups = pd.Series(frame[choices.group].to_numpy(), index=good)
    return Loaded(made, classes, groups, found.names, notes)


def fingerprint(parts: dict[Part, tuple[Pictures, np.ndarray]], options: dict[str, Any]) -> str:
    """SHA-256 over pictures, labels and order of every part, and the options; 16 digits."""
    digest = hashlib.sha256(json.dumps(plain(options), sort_keys=True).encode())
    for part in sorted(parts):
        pictures, y = parts[part]
        digest.update(f"\0{part}\0{pictures.shape}\0".encode() + pictures.hashes.tobytes())
        digest.update("\0".join(map(str, y.tolist())).encode())
    return digest.hexdigest()[:16]


def bytes_of(text: str | int) -> int:
    """A number of bytes, said as 2GiB, 500MB or 4096.

    Raises:
        KnobError: it is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", str(text).lower())
    if found is None or float(found[1]) <= 0:
        raise KnobError(f"{text!r} is no amount of memory; give one such as 2GiB")
    return int(float(found[1]) * UNITS[found[2]])


def _with_own_parts(found: Found, choices: Choices) -> tuple[Found, dict[str, float]]:
    """The pictures with those of parts that have a source of their own; shares of the others."""
    shares: dict[str, float] = {}
    own: dict[str, Found] = {}
    for part in ("validation", "test"):
        wanted = getattr(choices, part)
        share = share_of(part, wanted)
        if share is None:
            own[part] = find_pictures(wanted, target=choices.target)
        shares[part] = share or 0.0
    if not own:
        return found, shares
    if choices.group is not None or found.parts is not None:
        raise DataError("pictures are parted in one way: by a source, by folders or by --group")
    return _joined({"train": found} | own), shares


def _joined(founds: dict[str, Found]) -> Found:
    """Several sources as one, each a part of it."""
    arrays = [found.pictures for found in founds.values() if isinstance(found.pictures, np.ndarray)]
    if len(arrays) == len(founds) and len({array.shape[1:] for array in arrays}) == 1:
        pictures: Any = np.concatenate(arrays)
    else:
        pictures = [one for found in founds.values() for one in found.pictures]
    return Found(
        pictures=pictures,
        names=[name for found in founds.values() for name in found.names],
        labels=np.concatenate([_labels(found) for found in founds.values()]),
        parts=np.array([part for part, found in founds.items() for _ in found.names], dtype=object),
        columns=pd.concat([found.columns for found in founds.values()], ignore_index=True),
        notes=[note for found in founds.values() for note in found.notes],
    )


def _parts(
    found: Found, frame: pd.DataFrame, good: np.ndarray, y: np.ndarray, choices: Choices,
    shares: dict[str, float],
) -> Parts:  # fmt: skip
    how: How = "stratified"
    column = None
    if choices.group is not None:
        if choices.group not in frame.columns:
            raise DataError(
                f"there is no column {choices.group!r}.{nearest(choices.group, frame.columns)}"
            )
        how, column = "group", choices.group
    elif found.parts is not None:
        how, column = "given", PART
        frame = pd.DataFrame({PART: found.parts[good]})
    return split_parts(
        frame, y, how=how, column=column, seed=choices.split_seed, test=shares["test"],
        validation=shares["validation"],
    )  # fmt: skip


def _labels(found: Found) -> np.ndarray:
    assert found.labels is not None  # they were asked for
    return found.labels


def _as_classes(labels: Sequence[Any] | np.ndarray) -> np.ndarray:
    """(n,) labels in one type: whole numbers where all are, else texts."""
    values = list(labels)
    if all(
        isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in values
    ):
        return np.array(values, dtype=np.int64)
    return np.array([str(value) for value in values], dtype=object)
