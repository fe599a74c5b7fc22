"""What users say about samples with a target, whatever the samples are: shares, and what is kept
of it for a record.
"""

import os
from collections.abc import Mapping
from typing import Any

from stackwise.errors import DataError

FEWEST_ROWS = 10


def check_max_rows(max_rows: int | None) -> None:
    """Refuse to train on next to nothing.

    Raises:
        DataError: so few rows are asked for.
    """
    if max_rows is not None and max_rows < FEWEST_ROWS:
        raise DataError(
            f"--max-rows {max_rows} is too few to train on; give at least {FEWEST_ROWS}"
        )


def share_of(part: str, wanted: Any) -> float | None:
    """The share of the rows that a part is to have; None where a source of its own is named.

    Raises:
        DataError: it is no share.
    """
    if not isinstance(wanted, (int, float)) or isinstance(wanted, bool):
        return None
    if not 0 < wanted < 1:
        raise DataError(f"--{part} {wanted} is no share of the rows between 0 and 1")
    return float(wanted)


def kept_options(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from their defaults, as JSON, for repeating the load."""
    kept: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, os.PathLike):
            kept[name] = os.fspath(value)
        elif isinstance(value, tuple):
            kept[name] = list(value)
        elif not isinstance(value, (str, int, float, list, type(None))):
            kept[name] = type(value).__name__  # samples; they are in the hash
        elif value is not None and value != defaults.get(name):
            kept[name] = value
    return kept
