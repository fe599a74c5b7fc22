"""The same sample in two parts, which makes a test score too good."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from stackwise.tasks.labelled.found import count


def repeated_across(
    hashes: np.ndarray,
    parts: Mapping[str, np.ndarray],
    names: Sequence[str],
    *,
    what: str,
    alike: str,
) -> list[str]:
    """A sentence for each two parts that share samples.

    Args:
        hashes: (n,) equal where samples are equal, as they are given to a network.
        parts: the rows of each part.
        names: (n,) what each sample is called.
        what: a sample is called. alike: how equal samples are, such as `pixel for pixel`.
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
                f"{count(len(shared), what)} of the {second} part {are} in the {first} part "
                f"too, {alike}, such as {names[one]} (there {names[other]})"
            )
    return notes
