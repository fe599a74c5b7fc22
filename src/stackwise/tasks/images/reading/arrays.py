"""Read pictures that are numbers: arrays in memory, .npz and .npy.

    shape       (n, H, W), (n, H, W, C) or (n, C, H, W) with 1, 3 or 4 channels. The channels are
                the axis that has as many; where both could be, `channels_first` says which
    type        uint8 as it is; true and false as 255 and 0; other whole numbers within 0..255 as
                they are; uint16 beyond by its range; floats within 0..1 times 255, and otherwise
                within 0..255 rounded. What is none of these (standardised pictures) is refused
    4 channels  the fourth is opacity, laid on white

An .npz holds what `stackwise.tasks.labelled.array_files` says. A folder holds X.npy and y.npy; X
stays on the disk where it is uint8.
"""

from pathlib import Path
from typing import Any

import numpy as np

from stackwise.errors import DataError
from stackwise.tasks.images.marks import PICTURE
from stackwise.tasks.labelled.array_files import labels_beside, mapped, npz_arrays
from stackwise.tasks.labelled.found import Found, objects

CHANNELS = (1, 3, 4)
BLOCK = 1024


def find_in_arrays(
    pictures: Any, labels: Any = None, *, channels_first: bool | None = None
) -> Found:
    """The pictures of an array, with a label each.

    Raises:
        DataError: an array is no pictures, or labels are too few or too many.
    """
    found = as_pictures(pictures, channels_first=channels_first)
    names = [str(row) for row in range(len(found))]
    return Found(found, names, labels_beside(labels, len(found), PICTURE))


def as_pictures(array: Any, *, channels_first: bool | None = None) -> np.ndarray:
    """Pictures as (n, H, W, C) uint8 with C of 1 or 3, a view where they are uint8.

    Args:
        channels_first: whether a four-dimensional array is (n, C, H, W); found by itself.

    Raises:
        DataError: it has another shape, no picture, or values that are no brightness.
    """
    found = np.asanyarray(array)
    if found.ndim not in (3, 4):
        raise DataError(
            f"pictures are (n, H, W), (n, H, W, C) or (n, C, H, W); this array is {found.shape}"
        )
    if 0 in found.shape:
        raise DataError(f"the array of pictures is empty: {found.shape}")
    if found.ndim == 3:
        if found.shape[-1] in (3, 4):
            height, width, deep = found.shape
            raise DataError(
                f"an array {found.shape} may be one picture or many that are {deep} pixels wide; "
                f"give (1, {height}, {width}, {deep}) or ({height}, {width}, {deep}, 1)"
            )
        found = found[..., None]
    elif channels_are_first(found.shape, channels_first):
        found = np.moveaxis(found, 1, -1)
    found = _eight_bits(found)
    return _on_white(found) if found.shape[-1] == 4 else found


def channels_are_first(shape: tuple[int, ...], said: bool | None = None) -> bool:
    """Whether axis 1 holds the channels."""
    axes = {True: shape[1], False: shape[3]}
    if said is not None:
        if axes[said] not in CHANNELS:
            raise DataError(f"axis {1 if said else 3} of {shape} is not 1, 3 or 4 channels")
        return said
    fitting = [first for first, channels in axes.items() if channels in CHANNELS]
    if len(fitting) == 2:
        raise DataError(
            f"the channels of {shape} may be axis 1 or axis 3; say channels_first=True or False"
        )
    if not fitting:
        raise DataError(f"no axis of {shape} is 1, 3 or 4 channels")
    return fitting[0]


def _eight_bits(array: np.ndarray) -> np.ndarray:
    """uint8 of the same shape."""
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return array
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if kind not in "iuf":
        raise DataError(f"pictures are numbers; this array holds {array.dtype}")
    low, high = array.min(), array.max()
    if kind == "u" and array.dtype.itemsize == 2 and high > 255:
        scale = 255 / 65535
    elif kind == "f" and low >= 0 and high <= 1:
        scale = 255.0
    elif low >= 0 and high <= 255:
        scale = 1.0
    else:
        raise DataError(
            f"the values of pictures are from 0 to 255, or floats from 0 to 1; these are from "
            f"{low:.4g} to {high:.4g}"
        )
    made = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), BLOCK):  # no second copy of all in floats
        block = array[start : start + BLOCK]
        made[start : start + BLOCK] = block if scale == 1 and kind != "f" else (
            (block * np.float32(scale)).round()
        )  # fmt: skip
    return made


def _on_white(array: np.ndarray) -> np.ndarray:
    made = np.empty((*array.shape[:3], 3), np.uint8)
    for start in range(0, len(array), BLOCK):
        block = array[start : start + BLOCK]
        opacity = block[..., 3:].astype(np.float32) / 255
        made[start : start + BLOCK] = (block[..., :3] * opacity + 255 * (1 - opacity)).round()
    return made


def find_in_npz(path: Path, *, channels_first: bool | None = None) -> Found:
    """The pictures of an .npz file, in parts where its names say so.

    Raises:
        DataError: it is damaged, holds Python objects, no pictures, or more than memory holds.
    """
    read = npz_arrays(path, PICTURE, "images?")
    founds = [
        find_in_arrays(pair["X"], pair.get("y"), channels_first=channels_first)
        for pair in read.values()
    ]
    if len(founds) == 1:
        return founds[0]
    return _joined(path, dict(zip(read, founds, strict=True)))


def _joined(path: Path, founds: dict[str | None, Found]) -> Found:
    """Parts as one; those with a label only where all have."""
    shapes = {np.asarray(found.samples).shape[1:] for found in founds.values()}
    if len(shapes) > 1:
        raise DataError(f"the parts of {path} hold pictures of different shapes: {sorted(shapes)}")
    pictures = np.concatenate([np.asarray(found.samples) for found in founds.values()])
    labels = [found.labels for found in founds.values() if found.labels is not None]
    if labels and len(labels) < len(founds):
        lacking = next(part for part, found in founds.items() if found.labels is None)
        raise DataError(f"{path} holds no labels for its {lacking} pictures")
    parts = [part for part, found in founds.items() for _ in range(len(found))]
    names = [str(row) for row in range(len(pictures))]
    return Found(pictures, names, np.concatenate(labels) if labels else None, objects(parts))


def find_in_npy(path: Path, *, channels_first: bool | None = None) -> Found:
    """The pictures of a folder with X.npy and y.npy, or of one .npy file, without labels.

    Raises:
        DataError: a file is damaged or holds Python objects.
    """
    if not path.is_dir():
        return find_in_arrays(mapped(path), channels_first=channels_first)
    labels = path / "y.npy"
    return find_in_arrays(
        mapped(path / "X.npy"), mapped(labels) if labels.is_file() else None,
        channels_first=channels_first,
    )  # fmt: skip
