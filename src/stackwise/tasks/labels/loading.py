"""Bring labelled texts in as a task: find them, part them."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from stackwise.errors import DataError
from stackwise.tasks.labelled.found import count
from stackwise.tasks.labelled.options import check_max_rows, kept_options
from stackwise.tasks.labelled.parting import Loaded, Parting, parted, with_own_parts
from stackwise.tasks.labels.marks import TEXT
from stackwise.tasks.labels.reading import find_texts
from stackwise.tasks.labels.texts import Texts

_DEFAULTS = {"validation": 0.2, "test": 0.2, "split_seed": 0}


@dataclass(frozen=True)
class Choices(Parting):
    """What a user says beside the source; see `LabelsTask.load`."""

    field: str | None
    max_length: int | None

    def as_options(self, metric: str | None) -> dict[str, Any]:
        """The options that differ from their defaults, as JSON, for repeating the load."""
        given = {
            "field": self.field, "target": self.target, "group": self.group,
            "validation": self.validation, "test": self.test, "metric": metric,
            "max_rows": self.max_rows, "max_length": self.max_length,
            "split_seed": self.split_seed,
        }  # fmt: skip
        return kept_options(given, _DEFAULTS)


def load_parts(source: Any, choices: Choices) -> Loaded:
    """Read labelled texts and part them; blank ones are left out.

    Raises:
        DataError: one sentence about what cannot be used, and what would be right.
    """
    check_max_rows(choices.max_rows)
    find = partial(find_texts, field=choices.field)
    found, shares = with_own_parts(find(source, target=choices.target), choices, find)
    good = np.array([row for row, text in enumerate(found.samples) if text is not None], dtype=int)
    if not len(good):
        raise DataError("every text of this source is blank")
    blank = len(found) - len(good)
    said = [f"{count(blank, 'blank text')} left out"] if blank else []
    texts = Texts([found.samples[row] for row in good], good)
    return parted(
        found, texts, good, choices, shares, what=TEXT, alike="letter for letter", said=said
    )
