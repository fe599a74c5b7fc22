"""Decode every picture once: know the broken ones, hash the others, and hold what fits in memory.

What is broken is known before training begins, and the labels can be left out with it.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xxhash

from stackwise.errors import DataError
from stackwise.tasks.images.reading.decode import BadPicture, Channels, Contents, look
from stackwise.tasks.images.reading.holding import Packed, Pictures
from stackwise.tasks.images.reading.sizes import Size, asked_size, common_size, shown
from stackwise.tasks.images.reading.threads import begin, finish
from stackwise.tasks.labelled.found import Found, count

MEMORY = 2 << 30
SHARE_OF_BAD = 0.01
OnBad = Literal["error", "skip"]


def load_pictures(
    found: Found,
    image_size: int | Sequence[int] | None = None,
    channels: Channels | None = None,
    memory: int = MEMORY,
    bad: OnBad = "error",
) -> tuple[Pictures, np.ndarray, list[str]]:
    """Bring pictures to one shape and hold them.

    Every picture is decoded once. What does not fit in `memory` is decoded again whenever it is
    asked for.

    Args:
        image_size: a side, or (height, width); inferred without (`sizes.common_size`).
        channels: 1 or 3; without, 1 where all pictures are of a grey kind and else 3.
        memory: bytes that decoded pictures may take.
        bad: `skip` leaves out any number of pictures that cannot be read, and `error` at most one
            in a hundred.

    Returns:
        The good pictures; (n_good,) which of the found they are; notes.

    Raises:
        DataError: too many or all cannot be read, or the size is none.
    """
    if not len(found):
        raise DataError("there is no picture")
    size, channels, notes = _shape(found, image_size, channels)
    whole = _as_they_are(found.samples, size, channels)
    if whole is not None:
        rows = np.arange(len(whole))
        return Pictures(whole, rows, _hashes(whole)), rows, notes
    packed = Packed(found.samples, found.names, size, channels)
    needed = int(np.prod(packed.shape))
    held = np.empty(packed.shape, np.uint8) if needed <= memory else None
    hashes, broken = _decode_once(packed, held)
    notes += told_broken(broken, len(found), bad)
    if held is None:
        notes.append(
            f"{len(found):,} pictures of {shown(size)} take {needed / 2**30:.3g} GiB, more than "
            f"the {memory / 2**30:.3g} GiB of --memory: they are decoded whenever they are needed"
        )
    good = np.array([row for row in range(len(found)) if row not in broken], dtype=np.int64)
    source = packed if held is None else held
    return Pictures(source, good, hashes[good]), good, notes


def _shape(
    found: Found, image_size: int | Sequence[int] | None, channels: Channels | None
) -> tuple[Size, Channels, list[str]]:
    """The size and the channels, asked for or read off the headers of all pictures."""
    if channels not in (None, 1, 3):
        raise DataError(f"pictures have 1 channel (grey) or 3 (RGB), not {channels}")
    if image_size is not None and channels is not None:
        return asked_size(image_size), channels, []
    if isinstance(found.samples, np.ndarray):
        _, height, width, deep = found.samples.shape
        sizes, grey = [(height, width)], deep == 1
    else:
        sizes, grey = _headers(found)
    size, note = common_size(sizes) if image_size is None else (asked_size(image_size), "")
    return size, channels or (1 if grey else 3), [note] if note else []


def _headers(found: Found) -> tuple[list[Size], bool]:
    """(height, width) of each picture whose header can be read, and whether all are grey."""
    sizes: list[Size | None] = [None] * len(found)
    colours = np.zeros(len(found), dtype=bool)
    errors: dict[int, BadPicture] = {}

    def read(piece: slice) -> None:
        for row in range(piece.start, piece.stop):
            try:
                header = look(found.samples[row], name=found.names[row])
                sizes[row], colours[row] = (header.height, header.width), not header.grey
            except BadPicture as error:
                errors[row] = error

    finish(begin(read, len(found)))
    known = [size for size in sizes if size is not None]
    if not known:
        raise _none(errors, len(found))
    return known, not colours.any()


def _as_they_are(pictures: Contents, size: Size, channels: int) -> np.ndarray | None:
    """(n, C, H, W), a view of an array that needs no change; else None."""
    if isinstance(pictures, np.ndarray) and pictures.shape[1:] == (*size, channels):
        return np.moveaxis(pictures, -1, 1)
    return None


def _decode_once(
    packed: Packed, held: np.ndarray | None
) -> tuple[np.ndarray, dict[int, BadPicture]]:
    """Decode every picture, keep it in `held`, and give the hashes and what is broken."""
    hashes = np.zeros(packed.shape[0], np.uint64)
    broken: dict[int, BadPicture] = {}

    def read(piece: slice) -> None:
        for row in range(piece.start, piece.stop):
            try:
                picture = np.ascontiguousarray(packed.one(row))
            except BadPicture as error:
                broken[row] = error
                continue
            hashes[row] = xxhash.xxh3_64_intdigest(picture.data)
            if held is not None:
                held[row] = picture

    finish(begin(read, packed.shape[0]))
    return hashes, dict(sorted(broken.items()))


def _hashes(pictures: np.ndarray) -> np.ndarray:
    found = [xxhash.xxh3_64_intdigest(np.ascontiguousarray(picture).data) for picture in pictures]
    return np.array(found, np.uint64)


def told_broken(broken: dict[int, BadPicture], total: int, bad: OnBad) -> list[str]:
    """A note about what cannot be read.

    Raises:
        DataError: it is all, or more than a hundredth where that is not said to be right.
    """
    if len(broken) == total:
        raise _none(broken, total)
    if not broken:
        return []
    told = f"{count(len(broken), 'picture')} of {total:,} cannot be read"
    first = "; ".join(str(error) for error in list(broken.values())[:3])
    if len(broken) > SHARE_OF_BAD * total and bad != "skip":
        raise DataError(
            f"{told}, more than a hundredth ({first}); mend them, or leave them out with --bad skip"
        )
    return [f"{told} and {'is' if len(broken) == 1 else 'are'} left out: {first}"]


def _none(broken: dict[int, BadPicture], total: int) -> DataError:
    first = broken[min(broken)]
    return DataError(f"none of {count(total, 'picture')} can be read: {first}")
