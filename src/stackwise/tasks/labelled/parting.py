"""Part the samples of a source: by what it says itself, by sources of their own, or by shares."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from stackwise.errors import DataError, nearest
from stackwise.files import plain
from stackwise.protocols import Part
from stackwise.tasks.labelled.found import Found, count, several
from stackwise.tasks.labelled.options import share_of
from stackwise.tasks.labelled.repeats import repeated_across
from stackwise.tasks.labelled.split import How, Parts, split_parts, thin
from stackwise.tasks.labelled.task import classes_of

PART = "part"
"""The column of a frame that parts rows, where the source names parts."""


@dataclass(frozen=True)
class Parting:
    """What a user says of the parts of a source of samples.

    Attributes:
        target: the column of labels. group: the column whose equal values stay in one part.
        validation, test: a share of all samples, or a source of its own.
        max_rows: samples to train on at most. split_seed: of the split.
    """

    target: str | None
    group: str | None
    validation: Any
    test: Any
    max_rows: int | None
    split_seed: int


@dataclass
class Loaded:
    """Samples that were read and parted.

    Attributes:
        parts: samples and labels of each part. classes: of the training part, sorted; None where
            the labels are numbers.
        groups: by row, what keeps rows together. names: of all samples, by row.
    """

    parts: dict[Part, tuple[Any, np.ndarray]]
    classes: np.ndarray | None
    groups: pd.Series | None
    names: list[str]
    notes: list[str] = field(default_factory=list)


def parted(
    found: Found,
    samples: Any,
    good: np.ndarray,
    choices: Parting,
    shares: dict[str, float],
    *,
    what: str,
    alike: str,
    said: Sequence[str] = (),
    numbers: bool = False,
) -> Loaded:
    """Part samples that were read, those without a label left out.

    Args:
        samples: those that can be used: of each kind of data its own, with `only` and `hashes`.
        good: (n,) the place of each in `found`.
        shares: of validation and test.
        what: a sample is called. alike: how equal those of one hash are. said: notes of reading.
        numbers: the labels are numbers to predict, and no classes.

    Raises:
        DataError: there is one class or one number alone, or a part would be empty.
    """
    notes = [*found.notes]
    known = np.array([label is not None for label in labels_of(found)])
    if not known.all():
        notes.append(f"{count(int((~known).sum()), what)} without a label, left out")
    notes += said
    rows = np.flatnonzero(known[good])
    samples, good = samples.only(rows), good[rows]
    labels = labels_of(found)[good]
    y = np.asarray(labels, dtype=np.float64) if numbers else as_classes(labels)
    if len(np.unique(y)) < 2:
        one = "value" if numbers else "class"
        all_alike = f"all {several(what)} are of one {one}"
        held = f"{all_alike} ({y[0]})" if len(y) else f"no {what} has a label"
        raise DataError(f"{held}; at least two are needed")
    frame = found.columns.iloc[good].reset_index(drop=True)
    alike_shares = np.zeros(len(y), dtype=np.int64) if numbers else y
    parts = parts_of_rows(found, frame, good, alike_shares, choices, shares)
    thin(parts, choices.max_rows, choices.split_seed)
    notes += parts.notes
    rows_of: dict[Part, np.ndarray] = {
        "train": parts.train, "validation": parts.validation, "test": parts.test
    }  # fmt: skip
    made = {part: (samples.only(rows), y[rows]) for part, rows in rows_of.items()}
    classes = None if numbers else classes_of(made, notes)
    if classes is not None and len(classes) < 2:
        raise DataError(f"the training part holds one class ({classes[0]}); split otherwise")
    notes += repeated_across(
        samples.hashes, {str(part): rows for part, rows in rows_of.items()},
        [found.names[row] for row in good], what=what, alike=alike,
    )  # fmt: skip
    groups = None
    if choices.group is not None:
        groups = pd.Series(frame[choices.group].to_numpy(), index=good)
    return Loaded(made, classes, groups, found.names, notes)


def fingerprint(parts: dict[Part, tuple[Any, np.ndarray]], options: dict[str, Any]) -> str:
    """SHA-256 over samples, labels and order of every part, and the options; 16 digits."""
    digest = hashlib.sha256(json.dumps(plain(options), sort_keys=True).encode())
    for part in sorted(parts):
        samples, y = parts[part]
        digest.update(f"\0{part}\0{samples.shape}\0".encode() + samples.hashes.tobytes())
        digest.update("\0".join(map(str, y.tolist())).encode())
    return digest.hexdigest()[:16]


def with_own_parts(
    found: Found, choices: Parting, find: Callable[..., Found]
) -> tuple[Found, dict[str, float]]:
    """The samples with those of parts that have a source of their own; shares of the others.

    Args:
        find: (source, target=...) -> the samples of such a source.

    Raises:
        DataError: a share is none, or samples are parted in two ways.
    """
    shares: dict[str, float] = {}
    own: dict[str, Found] = {}
    for part in ("validation", "test"):
        wanted = getattr(choices, part)
        share = share_of(part, wanted)
        if share is None:
            own[part] = find(wanted, target=choices.target)
        shares[part] = share or 0.0
    if not own:
        return found, shares
    if choices.group is not None or found.parts is not None:
        raise DataError("samples are parted in one way: by a source, by folders or by --group")
    return joined_sources({"train": found} | own), shares


def joined_sources(founds: dict[str, Found]) -> Found:
    """Several sources as one, each a part of it."""
    arrays = [found.samples for found in founds.values() if isinstance(found.samples, np.ndarray)]
    if len(arrays) == len(founds) and len({array.shape[1:] for array in arrays}) == 1:
        samples: Any = np.concatenate(arrays)
    else:
        samples = [one for found in founds.values() for one in found.samples]
    return Found(
        samples,
        names=[name for found in founds.values() for name in found.names],
        labels=np.concatenate([labels_of(found) for found in founds.values()]),
        parts=np.array([part for part, found in founds.items() for _ in found.names], dtype=object),
        columns=pd.concat([found.columns for found in founds.values()], ignore_index=True),
        notes=[note for found in founds.values() for note in found.notes],
    )


def parts_of_rows(
    found: Found, frame: pd.DataFrame, good: np.ndarray, y: np.ndarray, choices: Parting,
    shares: dict[str, float],
) -> Parts:  # fmt: skip
    """The parts of the samples that are kept.

    Args:
        frame: (n, ...) what else is known of each. good: (n,) the place of each in `found`.
        y: (n,) their labels. shares: of validation and test.

    Raises:
        DataError: there is no column `group`, or a part would be empty.
    """
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


def labels_of(found: Found) -> np.ndarray:
    """(n,) the labels of samples for which they were asked."""
    assert found.labels is not None
    return found.labels


def as_classes(labels: Sequence[Any] | np.ndarray) -> np.ndarray:
    """(n,) labels in one type: whole numbers where all are, else texts."""
    values = list(labels)
    if all(
        isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in values
    ):
        return np.array(values, dtype=np.int64)
    return np.array([str(value) for value in values], dtype=object)
