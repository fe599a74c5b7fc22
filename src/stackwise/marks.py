"""What a source looks like from outside: its ending, its first record, the files of its folder.

Tasks recognise their sources by such marks, before anything heavy is imported or much is read.
"""

import json
import os
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from stackwise.data.entry import Kind

MOST_BYTES = 1 << 20
"""No first record is longer than this."""
MOST_ENTRIES = 200
"""Of a folder, how many are looked at to see what it holds."""
LINES = (".jsonl", ".ndjson", ".json")
"""Files of records."""


def is_path(source: Any) -> bool:
    """Whether it is a name or a path, and no object that holds data."""
    return isinstance(source, (str, os.PathLike))


def is_named(source: Any, kind: Kind) -> bool:
    """Whether this is the name of a data set of this kind and no file here."""
    from stackwise import data

    if not is_path(source):
        return False
    text = os.fspath(source)
    return not Path(text).exists() and text in {entry.name for entry in data.names(kind)}


def ending(source: Any) -> str:
    """The lower-case ending of a file's name, such as `.csv`; that of a folder is empty."""
    if not is_path(source):
        return ""
    path = Path(os.fspath(source))
    return "" if path.is_dir() else path.suffix.lower()


def holds(source: Any, endings: Iterable[str]) -> bool:
    """Whether it is a folder in which a file of such an ending lies."""
    if not is_path(source) or not Path(os.fspath(source)).is_dir():
        return False
    path = Path(os.fspath(source))
    wanted = tuple(endings)
    return any(file.suffix.lower() in wanted for file in path.iterdir())


def first_record(source: Any) -> dict[str, Any]:
    """The first record of a list, of a file of JSON lines, or of the first such file of a folder;
    empty where there is none, or where it is no set of fields.
    """
    if not is_path(source):
        first = source[0] if isinstance(source, (list, tuple)) and source else source
        return dict(first) if isinstance(first, Mapping) else {}
    path = Path(os.fspath(source))
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in LINES)
        path = files[0] if files else path
    if path.suffix.lower() not in LINES or not path.is_file():
        return {}
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        text = file.read(MOST_BYTES).lstrip().removeprefix("[").lstrip()
    try:
        found, _ = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def first_entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The first files and folders in a folder that are not hidden, as the disk gives them; none
    where it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            first = islice(entries, MOST_ENTRIES)
            found = [entry for entry in first if not entry.name.startswith(".")]
    except OSError:
        return [], []
    folders = [Path(entry.path) for entry in found if entry.is_dir()]
    return [Path(entry.path) for entry in found if not entry.is_dir()], folders
