"""Bring tagged sentences in as a task: find them, part them."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stackwise.errors import DataError
from stackwise.protocols import Part
from stackwise.tasks.labelled.options import check_max_rows, kept_options
from stackwise.tasks.labelled.parting import Parting, parts_of_rows, with_own_parts
from stackwise.tasks.labelled.repeats import repeated_across
from stackwise.tasks.labelled.split import Parts, thin
from stackwise.tasks.tags.parting import parted_by_names
from stackwise.tasks.tags.reading.source import DOCUMENT, How, find_tagged
from stackwise.tasks.tags.schemes import Scheme
from stackwise.tasks.tags.sentences import Sentence

_DEFAULTS = {"validation": 0.2, "test": 0.2, "split_seed": 0, "label": "name", "repair": False}
FEWEST_DOCUMENTS = 5
"""With fewer documents than this their sentences are parted, and a note says so."""


@dataclass(frozen=True)
class Choices(Parting):
    """What a user says beside the source; see `TagsTask.load`."""

    how: How
    unseen: float | None

    def as_options(self) -> dict[str, Any]:
        """The options that differ from their defaults, as JSON, for repeating the load."""
        given = {
            "field": self.how.field, "tags": self.how.tags, "repair": self.how.repair,
            "names": self.how.names, "label": self.how.label, "unseen": self.unseen,
            "group": self.group, "validation": self.validation, "test": self.test,
            "max_rows": self.max_rows, "split_seed": self.split_seed,
        }  # fmt: skip
        return kept_options(given, _DEFAULTS)


@dataclass
class LoadedTags:
    """Sentences that were read and parted.

    Attributes:
        sentences: all of them. names: what each is called. rows: of each part, their numbers.
        types: of the names of the training part, sorted. scheme: how the source tells them.
    """

    sentences: list[Sentence]
    names: list[str]
    rows: dict[Part, np.ndarray]
    types: list[str]
    scheme: Scheme
    notes: list[str] = field(default_factory=list)


def load_parts(source: Any, choices: Choices) -> LoadedTags:
    """Read tagged sentences and part them.

    Raises:
        DataError: one sentence about what cannot be used, and what would be right.
    """
    check_max_rows(choices.max_rows)
    first = find_tagged(source, choices.how)
    if first.usual and choices.group is None and choices.unseen is None:
        choices = replace(choices, **first.usual)

    def find(other: Any, target: str | None) -> Any:
        return find_tagged(other, choices.how)

    found, shares = with_own_parts(first, choices, find)
    sentences: list[Sentence] = found.samples
    named = np.array([bool(one.spans) for one in sentences])
    if not named.any():
        raise DataError("no token is labelled as an entity; there is nothing to learn")
    notes = [*found.notes]
    choices = _by_documents(found.columns, choices, found.parts is not None, notes)
    good = np.arange(len(sentences))
    frame = found.columns.reset_index(drop=True)
    if choices.unseen is not None:
        if choices.group is not None or found.parts is not None:
            raise DataError("sentences are parted in one way: by names (--unseen) or otherwise")
        parts = parted_by_names(
            sentences, choices.unseen, validation=shares["validation"], test=shares["test"],
            seed=choices.split_seed,
        )  # fmt: skip
    else:
        parts = parts_of_rows(found, frame, good, named.astype(np.int64), choices, shares)
    thin(parts, choices.max_rows, choices.split_seed)
    notes += parts.notes
    rows = _checked(parts, sentences, notes)
    types = sorted({span.type for row in rows["train"] for span in sentences[row].spans or ()})
    notes += _strange(rows, sentences, types)
    notes += repeated_across(
        np.array([one.hash for one in sentences], dtype=np.uint64),
        {str(part): of for part, of in rows.items()}, found.names,
        what="sentence", alike="word for word",
    )  # fmt: skip
    return LoadedTags(sentences, found.names, rows, types, first.scheme, notes)


def _by_documents(columns: Any, choices: Choices, parted: bool, notes: list[str]) -> Choices:
    """The sentences of a document stay together, where there are enough documents."""
    if DOCUMENT not in columns or choices.group is not None or parted or choices.unseen:
        return choices
    count = columns[DOCUMENT].nunique()
    if count < FEWEST_DOCUMENTS:
        notes.append(
            f"the source has {count} documents, too few to keep each in one part: sentences are "
            "parted"
        )
        return choices
    notes.append(f"the sentences of each of {count:,} documents are in one part")
    return replace(choices, group=DOCUMENT)


def _checked(parts: Parts, sentences: list[Sentence], notes: list[str]) -> dict[Part, np.ndarray]:
    rows: dict[Part, np.ndarray] = {
        "train": parts.train, "validation": parts.validation, "test": parts.test
    }  # fmt: skip
    for part, of in rows.items():
        if not any(sentences[row].spans for row in of):
            raise DataError(
                f"the {part} part has {len(of):,} sentences and no name in them; give more "
                "sentences, or another share"
            )
    return rows


def _strange(
    rows: dict[Part, np.ndarray], sentences: list[Sentence], types: list[str]
) -> list[str]:
    """A sentence for each held-out part with names of a type that training lacks."""
    notes = []
    for part, of in rows.items():
        strange = [s.type for row in of for s in sentences[row].spans or () if s.type not in types]
        if strange:
            notes.append(
                f"the {part} part has names of types without training names: "
                f"{', '.join(sorted(set(strange))[:5])} ({len(strange):,} names)"
            )
    return notes
