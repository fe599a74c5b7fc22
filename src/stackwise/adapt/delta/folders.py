"""The folder of a delta: where it lies, its record, and the class that the record names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stackwise.errors import ModelError
from stackwise.files import read_json

FORMAT = 1
RECORD = "delta.json"
DELTA = "delta"
"""The folder of a run in which a transform's delta lies."""
PLACES = (DELTA, "adapter")
"""Folders of a run in which its delta lies."""
KINDS: dict[str, Any] = {}
"""The classes of deltas by the names of their kinds, as far as they are imported."""


def delta_folder(reference: Path | str) -> Path:
    """The folder in which the delta lies that is named: itself, or of a run its part of that name.

    Raises:
        ModelError: there is no delta.
    """
    folder = Path(reference)
    for place in (folder, *(folder / name for name in PLACES)):
        if any((place / name).is_file() for name in _records()):
            return place
    raise ModelError(_no_delta(folder))


def read_record(folder: Path) -> dict[str, Any]:
    """The content of `delta.json`; empty where another library wrote the folder.

    Raises:
        ModelError: the folder holds no delta. RunError: the file is damaged.
    """
    if not (folder / RECORD).is_file():
        if any((folder / name).is_file() for name in _records()):
            return {}
        raise ModelError(_no_delta(folder))
    record = read_json(folder / RECORD)
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise ModelError(f"{folder / RECORD} is no record of a delta: it names no format")
    if record["format"] > FORMAT:
        raise ModelError(
            f"{folder} was written by a newer stackwise (format {record['format']}, this one reads "
            f"up to {FORMAT})"
        )
    return record


def kind_of(folder: Path, record: Mapping[str, Any]) -> Any:
    """The class of the kind that a record names; of the method's module, where that has it.

    Raises:
        ModelError: there is no such kind here.
    """
    if not record:
        return next(
            kind for kind in KINDS.values() if kind.foreign and (folder / kind.foreign).is_file()
        )
    name, method = record.get("kind"), record.get("method")
    name = name if isinstance(name, str) else None
    if name not in KINDS and isinstance(method, str):
        from stackwise.catalog import cards

        known = cards().get(method)
        if known is not None:
            known.entries[0].load()  # its module brings its kinds
    if name is None or name not in KINDS:
        raise ModelError(
            f"{folder / RECORD} names the kind {name!r} of the method {method!r}, which this "
            f"installation does not have; there is {', '.join(sorted(KINDS))}"
        )
    return KINDS[name]


def _records() -> list[str]:
    return [RECORD, *(kind.foreign for kind in KINDS.values() if kind.foreign)]


def _no_delta(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder} that holds a delta"
    return f"{folder} holds no delta: it has no {' and no '.join(_records())}"
