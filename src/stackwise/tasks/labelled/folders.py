"""Find samples in folders: one folder a class, parts above them, or a flat folder.

    photos/cats/1.jpg                   a folder a class
    photos/train/cats/1.jpg             with parts above them
    photos/1.jpg                        no classes

A folder named `train`, `val`, `test`, ... is a part where it holds folders, and otherwise a class
of that name; once one is a part, all so named are. The class is the first folder, whatever lies
deeper in it. Hidden files are passed over, and files that are no samples by their endings; both are
counted. Links are followed, since sets are often made of them, and each folder is entered once,
so that a link to a folder above ends nowhere.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stackwise.errors import DataError
from stackwise.tasks.labelled.found import PARTS, Found, count, objects, some


@dataclass
class Listing:
    """The samples below a folder, sorted, and how many files were passed over.

    Attributes:
        what: a sample is called, such as `picture`.
    """

    what: str
    files: list[Path] = field(default_factory=list)
    hidden: int = 0
    foreign: Counter[str] = field(default_factory=Counter)

    @property
    def notes(self) -> list[str]:
        notes = []
        if self.hidden:
            notes.append(f"{count(self.hidden, 'hidden file')} passed over")
        if self.foreign:
            kinds = some([ending or "no ending" for ending, _ in self.foreign.most_common()])
            number = count(sum(self.foreign.values()), "file")
            notes.append(f"{number} not {self.what}s by their endings ({kinds}), passed over")
        return notes


def files_below(folder: Path, endings: tuple[str, ...], what: str) -> Listing:
    """Every sample in a folder and the folders in it.

    Args:
        endings: of the files that are samples, lower-case. what: a sample is called.

    Raises:
        DataError: a folder cannot be read.
    """
    found = Listing(what)
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name == "__MACOSX":
                        found.hidden += not entry.is_dir()
                    elif entry.is_dir():
                        waiting.append(Path(entry.path))
                    elif _is_sample(entry, endings):
                        found.files.append(Path(entry.path))
                    else:
                        found.foreign[Path(entry.name).suffix.lower()] += 1
        except OSError as error:
            raise DataError(f"{place} cannot be read: {error.strerror or error}") from error
    found.files.sort()
    return found


def _is_sample(entry: os.DirEntry[str], endings: tuple[str, ...]) -> bool:
    """By its name; a link that leads nowhere is one that cannot be read, a pipe is none."""
    if not entry.name.lower().endswith(endings):
        return False
    return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))


def folders_in(folder: Path) -> Iterator[Path]:
    """The folders right in a folder that are not hidden, in the order of their names."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith(".") and path.name != "__MACOSX":
            yield path


def part_folders(folder: Path) -> dict[Path, str]:
    """The folders in a folder that are parts, and which."""
    named = {path: PARTS[path.name.lower()] for path in folders_in(folder)
             if path.name.lower() in PARTS}  # fmt: skip
    return named if any(any(folders_in(path)) for path in named) else {}


def find_in_folders(folder: Path, endings: tuple[str, ...], what: str) -> Found:
    """The samples of a folder, as paths, each with the class and the part that its folders say.

    Args:
        endings, what: as for `files_below`.

    Raises:
        DataError: there is none, or parts stand beside classes.
    """
    below = files_below(folder, endings, what)
    if not below.files:
        seen = f" ({'; '.join(below.notes)})" if below.notes else ""
        raise DataError(f"{folder} holds no {what}s{seen}")
    parts = part_folders(folder)
    depth = 1 if parts else 0
    ways = [path.relative_to(folder).parts for path in below.files]
    if parts:
        strange = {way[0] for way in ways if len(way) > 1} - {path.name for path in parts}
        if strange:
            raise DataError(
                f"{folder} holds the parts {some([path.name for path in parts])} beside the class "
                f"{sorted(strange)[0]!r}; put each class into the parts, or the parts elsewhere"
            )
    labelled = [len(way) > depth + 1 for way in ways]
    notes = below.notes
    if any(labelled):
        loose = [str(path) for path, has in zip(below.files, labelled) if not has]
        if loose:
            notes.append(
                f"{count(len(loose), what)} in no class's folder left out, such as {loose[0]}"
            )
        notes += _empty_classes(folder, parts, below)
        kept = [place for place, has in enumerate(labelled) if has]
    else:
        kept = list(range(len(ways)))
        depth = 0
    names = ["/".join(readable(name) for name in ways[place]) for place in kept]
    labels = [readable(ways[place][depth]) for place in kept] if any(labelled) else None
    of_part = {path.name: part for path, part in parts.items()}
    return Found(
        [below.files[place] for place in kept],
        names,
        None if labels is None else objects(labels),
        objects(of_part[ways[place][0]] for place in kept) if parts and labels else None,
        notes=notes,
    )


def _empty_classes(folder: Path, parts: dict[Path, str], below: Listing) -> list[str]:
    classes = [one for place in (parts or [folder]) for one in folders_in(place)]
    depth = len(folder.parts) + (2 if parts else 1)
    holding = {file.parts[:depth] for file in below.files}
    empty = [str(one.relative_to(folder)) for one in classes if one.parts not in holding]
    if not empty:
        return []
    return [f"{count(len(empty), 'folder')} of a class without a {below.what}: {some(empty)}"]


def readable(name: str) -> str:
    """A file's name as text that can be written: composed, and with stray bytes escaped.

    One class spelled in two ways (macOS writes e and its accent apart) is one class.
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text)
