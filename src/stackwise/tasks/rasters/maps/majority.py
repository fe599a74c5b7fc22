"""The majority filter: a pixel's unit becomes the one that most pixels of its window have.

    map'[i, j] = the smallest u of most votes    votes(u) = |{(a, b) in window : map[a, b] = u}|

Votes are counted a unit at a time by running sums, which costs the same for every size of window.
Pixels that are masked neither vote nor change. At the border of a scene the window sees the scene
mirrored, as SciPy's `generic_filter` does: pixels there vote more than once.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from stackwise.errors import DataError

MASKED = 255
"""The unit of a pixel that is in no map."""


def check_size(size: int) -> None:
    """Refuse a window that has no middle.

    Raises:
        DataError: the size is even or less than 1.
    """
    if size < 1 or size % 2 == 0:
        raise DataError(f"filter_size must be odd, so that a window has a middle, got {size}")


def majority_filter(labels: np.ndarray, size: int, mask: np.ndarray | None = None) -> np.ndarray:
    """The filtered map.

    Args:
        labels: (H, W) whole numbers from 0; what is negative is masked.
        size: of the window, odd. mask: (H, W), true where a pixel counts.

    Returns:
        (H, W) of the same type; masked pixels as they were.
    """
    check_size(size)
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise DataError(f"a map has two dimensions, got {labels.ndim}")
    counts = labels >= 0 if mask is None else (labels >= 0) & (np.asarray(mask) != 0)
    if not counts.any():
        return labels.copy()
    names, places = np.unique(labels[counts], return_inverse=True)
    if len(names) >= MASKED:
        raise DataError(f"a map of {len(names)} units is filtered; at most {MASKED - 1} can be")
    units = np.full(labels.shape, MASKED, np.uint8)
    units[counts] = places
    voted = _voted(units, size, top=True, bottom=True)
    filtered = labels.copy()
    filtered[counts] = names[voted[counts]]
    return filtered


def filtered_strips(strips: Iterable[np.ndarray], size: int, height: int) -> Iterator[np.ndarray]:
    """A map filtered as it comes: strips (rows, W) of uint8 in, strips out, equal to filtering it
    whole. Of the map only the rows that windows still reach are held.
    """
    half = size // 2
    held: np.ndarray | None = None
    first = done = 0  # the row that `held` begins with, and the first that was not given out
    for strip in strips:
        held = strip if held is None else np.concatenate([held, strip])
        ready = first + len(held)
        ready = ready if ready == height else ready - half
        if ready <= done:
            continue
        start = max(0, done - half)
        stop = min(ready + half, height)
        voted = _voted(
            held[start - first : stop - first], size, top=start == 0, bottom=stop == height
        )
        yield voted[done - start : ready - start]
        done = ready
        keep = max(0, done - half)
        held, first = held[keep - first :], keep


def _voted(units: np.ndarray, size: int, *, top: bool, bottom: bool) -> np.ndarray:
    """(H, W) uint8 units of most votes.

    Args:
        top, bottom: whether the scene ends there; else rows beyond are not known, and the outermost
            rows of the answer are not to be used.
    """
    if size == 1:
        return units
    half = size // 2
    rows = (half if top else 0, half if bottom else 0)
    padded = np.pad(units, (rows, (half, half)), mode="symmetric")
    most = np.zeros(units.shape, np.uint16)
    winner = units.copy()
    masked = units == MASKED
    begin, end = (0 if top else half), len(units) - (0 if bottom else half)
    for unit in np.unique(units):
        if unit == MASKED:
            continue
        votes = _sums(_sums(padded == unit, size, 1), size, 0)
        here = most[begin:end]
        np.copyto(winner[begin:end], unit, where=votes > here)
        np.maximum(here, votes, out=here)
    winner[masked] = MASKED
    return winner


def _sums(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Sums over `size` neighbours along an axis. Running sums may wrap around; their differences,
    at most 255 x 255, do not.
    """
    running = np.cumsum(values, axis=axis, dtype=np.uint16)
    if axis == 1:
        sums = running[:, size - 1 :].copy()
        sums[:, 1:] -= running[:, :-size]
    else:
        sums = running[size - 1 :].copy()
        sums[1:] -= running[:-size]
    return sums
