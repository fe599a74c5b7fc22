"""Samples that are numbers on the disk: .npz and .npy, read as data and no larger than memory.

An .npz holds `X` and `y`, or one pair a part: X_train, y_train, train_X, train_labels, ...
"""

import math
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil

from stackwise.errors import DataError
from stackwise.tasks.labelled.found import PARTS, objects, several

KEY = r"(?:(?P<before>[a-z]+)_)?(?:(?P<x>x|{named})|y|labels?)(?:_(?P<after>[a-z]+))?"


def labels_beside(labels: Any, count: int, what: str) -> np.ndarray | None:
    """(n,) the labels of `count` samples, as objects; None where there are none.

    Args:
        what: a sample is called.

    Raises:
        DataError: they are not one a sample.
    """
    if labels is None:
        return None
    found = np.asanyarray(labels)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        raise DataError(f"labels are one a {what}, (n,); these are {found.shape}")
    if len(found) != count:
        raise DataError(f"there are {len(found):,} labels for {count:,} {several(what)}")
    return objects(found.tolist())


def npz_arrays(path: Path, what: str, named: str) -> dict[str | None, dict[str, np.ndarray]]:
    """The arrays of an .npz file: part (None: the whole) -> `X` and, where there are, `y`.

    Args:
        what: a sample is called.
        named: the names that X may have besides, as a pattern.

    Raises:
        DataError: it is damaged, holds Python objects, no samples, or more than memory holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            pairs = _pairs(path, list(sizes), what, named)
            wanted = [name for pair in pairs.values() for name in pair.values()]
            needed = sum(_declared_bytes(archive, sizes[name]) for name in wanted)
            _refuse_beyond_memory(path, needed)
        with np.load(path, allow_pickle=False) as arrays:
            return {part: {what: arrays[name] for what, name in pair.items()}
                    for part, pair in pairs.items()}  # fmt: skip
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError) as e:
        raise _unreadable(path, e) from e


def _pairs(
    path: Path, names: list[str], samples: str, named: str
) -> dict[str | None, dict[str, str]]:
    """part (None: the whole) -> the names of its `X` and, where there are, `y`."""
    pairs: dict[str | None, dict[str, str]] = {}
    for name in names:
        known = re.fullmatch(KEY.format(named=named), name.lower())
        if known is None or (known["before"] and known["after"]):
            continue
        part = known["before"] or known["after"]
        if part is not None and part not in PARTS:
            continue
        what = "X" if known["x"] else "y"
        if pairs.setdefault(PARTS.get(part or ""), {}).setdefault(what, name) != name:
            raise DataError(
                f"{path} holds {what} twice: {name} and {pairs[PARTS.get(part or '')][what]}"
            )
    whole = {part: pair for part, pair in pairs.items() if "X" in pair}
    if not whole or (None in whole and len(whole) > 1):
        listed = ", ".join(names[:8]) or "nothing"
        raise DataError(
            f"{path} holds {listed}; {several(samples)} are called X and their labels y"
        )
    return whole


def _declared_bytes(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """What an array takes, by its own header: a few bytes may unpack to anything."""
    with archive.open(info) as file:
        return _header_bytes(file)


def _header_bytes(file: IO[bytes]) -> int:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
        np.lib.format.read_array_header_2_0
    )  # fmt: skip
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    return math.prod(shape) * dtype.itemsize


def _refuse_beyond_memory(path: Path, needed: int) -> None:
    free = psutil.virtual_memory().available
    if needed > free:
        raise DataError(
            f"{path} unpacks to {needed / 2**30:,.1f} GiB and {free / 2**30:,.1f} GiB of memory "
            "are free; keep X as X.npy in a folder, from which it is read in pieces"
        )


def mapped(path: Path) -> np.ndarray:
    """An array that stays on the disk."""
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from error
    return found


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    return DataError(f"{path} cannot be read: {str(error).partition(chr(10))[0]}")
