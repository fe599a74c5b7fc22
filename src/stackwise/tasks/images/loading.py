"""Bring pictures in as a task: find them, part them, bring them to one size."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from stackwise.errors import KnobError
from stackwise.tasks.images.marks import PICTURE
from stackwise.tasks.images.reading.find import find_pictures
from stackwise.tasks.images.reading.loading import load_pictures
from stackwise.tasks.labelled.options import check_max_rows, kept_options
from stackwise.tasks.labelled.parting import Loaded, Parting, parted, with_own_parts

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_DEFAULTS = {
    "validation": 0.2, "test": 0.2, "split_seed": 0, "memory": "2GiB", "bad": "error",
}  # fmt: skip


@dataclass(frozen=True)
class Choices(Parting):
    """What a user says beside the source; see `ImagesTask.load`."""

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


def load_parts(source: Any, choices: Choices) -> Loaded:
    """Read pictures and part them.

    Raises:
        DataError: one sentence about what cannot be used, and what would be right.
    """
    check_max_rows(choices.max_rows)
    found, shares = with_own_parts(
        find_pictures(source, target=choices.target), choices, find_pictures
    )
    pictures, good, said = load_pictures(
        found, choices.image_size, choices.channels, memory=bytes_of(choices.memory),
        bad=choices.bad,
    )  # fmt: skip
    return parted(
        found, pictures, good, choices, shares, what=PICTURE, alike="pixel for pixel", said=said
    )


def bytes_of(text: str | int) -> int:
    """A number of bytes, said as 2GiB, 500MB or 4096.

    Raises:
        KnobError: it is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", str(text).lower())
    if found is None or float(found[1]) <= 0:
        raise KnobError(f"{text!r} is no amount of memory; give one such as 2GiB")
    return int(float(found[1]) * UNITS[found[2]])
