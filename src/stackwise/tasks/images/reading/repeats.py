"""The same picture in two parts, which makes a test score too good."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from stackwise.tasks.images.reading.found import count


def repeated_across(
    hashes: np.ndarray, parts: Mapping[str, np.ndarray], names: Sequence[str]
) -> list[str]:
    """A sentence for each two parts that share pictures.

    Args:
        hashes: (n,) `Pictures.hashes`: equal where pictures are equal pixel for pixel, as they are
            given to a network.
        parts: the rows of each part.
        names: (n,) what each picture is called.
    """
    notes = []
    for first, second in combinations(parts, 2):
        rows = parts[second]
        shared = rows[np.isin(hashes[rows], hashes[parts[first]])]
        if len(shared):
            one = shared[0]
            other = parts[first][hashes[parts[first]] == hashes[one]][0]
            are = "is" if len(shared) == 1 else "are"
            notes.append(
                f"{count(len(shared), 'picture')} of the {second} part {are} in the {first} part "
                f"too, pixel for pixel, such as {names[one]} (there {names[other]})"
            )
    return notes
