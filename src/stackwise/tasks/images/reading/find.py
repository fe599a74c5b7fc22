"""Find the pictures of a source, of whichever kind it is; none is decoded here."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stackwise.errors import DataError, nearest
from stackwise.tasks.images.marks import ENDINGS, PARQUET, PICTURE
from stackwise.tasks.images.reading import metadata
from stackwise.tasks.images.reading.arrays import find_in_arrays, find_in_npy, find_in_npz
from stackwise.tasks.images.reading.records import find_in_datasets, find_in_parquet
from stackwise.tasks.labelled.folders import find_in_folders
from stackwise.tasks.labelled.found import PARTS, Found, some

HUB = "hf://"


def find_pictures(
    source: Any,
    *,
    target: str | None = None,
    labelled: bool = True,
    channels_first: bool | None = None,
) -> Found:
    """Find the pictures of a source and what is known of each.

    Args:
        source: a folder (`reading.folders`), also beside a metadata table (`reading.metadata`) or
            with X.npy; an .npz, .npy or parquet file; a folder that `datasets` saved;
            `hf://owner/name`; one picture; the name of a data set; in Python an array, a pair of
            pictures and labels, or a list of paths.
        target: the column of labels, where there are columns; `label` without.
        labelled: whether labels are needed; else they are taken where they are.
        channels_first: of arrays (n, C, H, W); found by itself.

    Raises:
        DataError: it holds no pictures, or no labels though they are needed; or it is damaged.
    """
    found = _found(source, target, labelled, channels_first)
    if labelled:
        _check_labels(source, found, target)
    return found


def _found(source: Any, target: str | None, needed: bool, channels_first: bool | None) -> Found:
    if isinstance(source, tuple) and len(source) == 2 and not _is_path(source[0]):
        return find_in_arrays(*source, channels_first=channels_first)
    if isinstance(source, Sequence) and not _is_path(source) and all(map(_is_path, source)):
        return _listed([Path(os.fspath(one)) for one in source])
    if not _is_path(source):
        return find_in_arrays(source, channels_first=channels_first)
    text = os.fspath(source)
    if text.startswith(HUB):
        name = text.removeprefix(HUB).removeprefix("datasets/")
        return find_in_datasets(name, target, hub=True, needed=needed)
    path = Path(text)
    try:
        if path.is_dir():
            return _in_folder(path, target, needed, channels_first)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    ending = path.suffix.lower()
    if not path.exists():
        return _named(text, ending)
    if ending == ".npz":
        return find_in_npz(path, channels_first=channels_first)
    if ending == ".npy":
        return find_in_npy(path, channels_first=channels_first)
    if ending in PARQUET:
        return find_in_parquet({path: None}, target, needed=needed)
    if ending in ENDINGS:
        return _listed([path])
    raise DataError(
        f"{path} is no source of pictures; give a folder, an .npz or .npy, or a parquet file"
    )


def _is_path(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike))


def _listed(paths: list[Path]) -> Found:
    if not paths:
        raise DataError("the list of pictures is empty")
    return Found(paths, [str(path) for path in paths])


def _in_folder(
    folder: Path, target: str | None, needed: bool, channels_first: bool | None
) -> Found:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return find_in_datasets(str(folder), target, hub=False, needed=needed)
    if (folder / "X.npy").is_file():
        return find_in_npy(folder, channels_first=channels_first)
    tables = metadata.tables_of(folder)
    if tables:
        return metadata.find_beside(folder, tables, target, needed=needed)
    parquet = sorted(file for file in folder.iterdir() if file.suffix.lower() in PARQUET)
    if parquet:
        parts = [PARTS.get(file.stem.lower().partition("-")[0]) for file in parquet]
        if len(parquet) > 1 and None in parts and any(parts):
            raise DataError(
                f"{folder} holds {some([file.name for file in parquet])}; name each after its "
                "part, such as train.parquet"
            )
        return find_in_parquet(dict(zip(parquet, parts)), target, needed=needed)
    return find_in_folders(folder, ENDINGS, PICTURE)


def _named(name: str, ending: str) -> Found:
    """A data set by its name."""
    from stackwise import data

    known = {entry.name for entry in data.names("images")}
    if name in known:
        return find_in_arrays(*data.images(name))
    if os.sep in name or ending in (*ENDINGS, *PARQUET, ".npz", ".npy"):
        raise DataError(f"{name} does not exist")
    raise DataError(f"there is no folder, file or set of images {name!r}.{nearest(name, known)}")


def _check_labels(source: Any, found: Found, target: str | None) -> None:
    columns = [str(name) for name in found.columns.columns]
    what = source if _is_path(source) else "this source"
    if found.labels is None and columns:
        raise DataError(
            f"{what} does not say what is predicted; name one of its columns with target: "
            f"{some(columns, 8)}"
        )
    if found.labels is None:
        raise DataError(
            f"{what} has no labels: put the pictures of each class into a folder of its own, or "
            "name them in a metadata.csv with the columns file_name and label"
        )
    # a run calls what it predicts `label` where its source has no columns
    if target not in (None, "label") and not columns:
        raise DataError(f"{what} has no columns, so that none is the target {target!r}")
