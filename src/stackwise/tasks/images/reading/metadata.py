"""Find pictures beside a table that names them, as Hugging Face's imagefolder has it.

    photos/metadata.csv                 file_name,label          (.jsonl and .parquet too)
                                        a/1.jpg,cat
    photos/train/metadata.csv           or one in each part, with names below the part

Names are paths below the table's folder. One that leads out of it is refused: the table may come
from a stranger. A file that is missing counts as a picture that cannot be read.
"""

import unicodedata
from pathlib import Path, PurePosixPath

import pandas as pd

from stackwise.errors import DataError
from stackwise.tasks.images.marks import ENDINGS, METADATA, PICTURE
from stackwise.tasks.labelled.folders import files_below, part_folders, readable
from stackwise.tasks.labelled.found import (
    LABEL,
    PARTS,
    Found,
    count,
    labels_among,
    objects,
    parts_of,
    some,
)
from stackwise.tasks.table.source import read_table

FILE = "file_name"


def tables_of(folder: Path) -> dict[Path, str | None]:
    """The tables of a folder: its own, or that of each part; with the part. Often none.

    Raises:
        DataError: one folder has two.
    """
    own = _table_in(folder)
    if own is not None:
        return {own: None}
    parts = {place: PARTS[place.name.lower()] for place in sorted(folder.iterdir())
             if place.is_dir() and place.name.lower() in PARTS} | part_folders(folder)  # fmt: skip
    found = {_table_in(place): part for place, part in parts.items()}
    return {table: part for table, part in found.items() if table is not None}


def _table_in(folder: Path) -> Path | None:
    found = [folder / name for name in METADATA if (folder / name).is_file()]
    if len(found) > 1:
        raise DataError(f"{folder} holds {found[0].name} and {found[1].name}; keep one of them")
    return found[0] if found else None


def find_beside(
    folder: Path, tables: dict[Path, str | None], target: str | None, *, needed: bool
) -> Found:
    """The pictures that tables name, each with its row.

    Args:
        needed: whether the column `target` must be there.

    Raises:
        DataError: a table cannot be read, lacks `file_name` or `target`, names a file outside, or
            one file twice with two labels.
    """
    frames = [_read(folder, table, part) for table, part in tables.items()]
    frame = pd.concat(frames, ignore_index=True)
    what = some([str(table.relative_to(folder)) for table in tables])
    frame, notes = _once(frame, target, f"{folder}: {what}")
    paths = [folder / name for name in frame[FILE]]
    labels = labels_among(
        frame.drop(columns=[FILE, "_part"]), target, f"{folder}: {what}", needed=needed
    )
    if None in tables.values():
        firsts = [PurePosixPath(name).parts[0] for name in frame[FILE]]
        parts = parts_of(firsts)
    else:
        parts = objects(frame["_part"])
    below = files_below(folder, ENDINGS, PICTURE)
    unnamed = len(set(below.files) - set(paths))
    if unnamed:
        notes.append(f"{count(unnamed, 'picture')} not named in {what}, left out")
    names = ["/".join(readable(step) for step in PurePosixPath(n).parts) for n in frame[FILE]]
    columns = frame.drop(columns=[FILE, "_part"])
    return Found(paths, names, labels, parts, columns, notes)


def _read(folder: Path, table: Path, part: str | None) -> pd.DataFrame:
    """A table's rows, with `file_name` below `folder` and `_part`."""
    frame = read_table(table, as_text=(FILE,))
    if FILE not in frame.columns:
        listed = some([str(name) for name in frame.columns], 8)
        raise DataError(f"{table} has no column {FILE!r} that names the pictures; it has {listed}")
    blank = int(frame[FILE].isna().sum())
    if blank:
        raise DataError(f"{table} names no file in {count(blank, 'row')}")
    above = table.parent.relative_to(folder)
    names = [str(above / _inside(table, str(name))) for name in frame[FILE]]
    return frame.assign(**{FILE: names, "_part": part})


def _inside(table: Path, name: str) -> PurePosixPath:
    """A name as a path below the table's folder, in the spelling (composed or not) of the disk."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise DataError(f"{table} names {name!r}, which is no file below {table.parent}")
    if not (table.parent / path).exists():
        for form in ("NFC", "NFD"):
            other = PurePosixPath(unicodedata.normalize(form, str(path)))
            if (table.parent / other).exists():
                return other
    return path


def _once(frame: pd.DataFrame, target: str | None, what: str) -> tuple[pd.DataFrame, list[str]]:
    """Each file once.

    Raises:
        DataError: a file has two labels.
    """
    again = frame.duplicated(FILE)
    if not again.any():
        return frame, []
    label = LABEL if target is None else target
    if label in frame.columns:
        distinct = frame.drop_duplicates([FILE, label])
        twice = distinct[distinct.duplicated(FILE, keep=False)]
        if len(twice):
            name, labels = twice[FILE].iloc[0], twice.loc[twice[FILE] == twice[FILE].iloc[0], label]
            raise DataError(
                f"{what} names {name!r} twice, as {labels.iloc[0]!r} and as {labels.iloc[1]!r}"
            )
    note = f"{count(int(again.sum()), 'row')} of a file that is named before, left out"
    return frame[~again].reset_index(drop=True), [note]
