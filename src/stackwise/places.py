"""Paths that stand in a file: a stranger may have written it, so none leads out of its folder."""

import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from stackwise.errors import RunError


def inside(folder: Path | str, name: Any) -> Path:
    """`folder / name` for a name that stands in a file, which a stranger may have written.

    Every path out of a record, a plan or a settings file is joined by this, so that none leads out
    of its folder: not by `..`, not by an absolute path, and not through a link.

    Raises:
        RunError: it would.
    """
    folder = Path(folder)
    if not isinstance(name, str) or not name or "\0" in name:
        raise RunError(f"a file in {folder} names {name!r} where the name of a file must stand")
    ways = (PurePosixPath(name), PureWindowsPath(name))
    path = folder / name
    leads = any(way.is_absolute() or way.drive or ".." in way.parts for way in ways)
    if leads or not _within(path, _homes(folder)):
        raise RunError(f"a file in {folder} names {name!r}, which leads out of that folder")
    return path


def check_contained(folder: Path | str) -> None:
    """Nothing below `folder` is a link that leads out of it: whoever reads and writes there by the
    usual names stays there.

    Raises:
        RunError: a link does; it is named.
    """
    folder = Path(folder)
    homes = _homes(folder)
    for place, rooms, files in os.walk(folder):
        for name in (*rooms, *files):
            path = Path(place, name)
            if path.is_symlink() and not _within(path, homes):
                raise RunError(f"{path} is a link that leads out of {folder}; remove it")


def _homes(folder: Path) -> list[Path]:
    """Where the files of a folder may lie: in it; and of a snapshot in the hub's cache, whose files
    are links, also among the blobs beside the snapshots.
    """
    home = folder.resolve()
    caches = [above.parent for above in home.parents if above.name == "snapshots"]
    return [home, *(cache / "blobs" for cache in caches)]


def _within(path: Path, homes: list[Path]) -> bool:
    found = path.resolve()
    return any(found.is_relative_to(home) for home in homes)
