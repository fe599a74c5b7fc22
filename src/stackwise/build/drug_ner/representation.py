"""How the words of a text are laid out for a network: in windows, or one after the other.

    sequence    x_i = [ xv_i ; |xv_i - xv_{i-1}| ]       a word and how far it is from the last one
    window      X_i = [ xv_i ; ... ; xv_{i+4} ]          a word and the four behind it

The label of a window is the number of words of the name that begins at its first word: 0 where none
does, whatever stands behind.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stackwise.errors import DataError, KnobError
from stackwise.tasks.tags.estimators.coding import Runs
from stackwise.tasks.tags.schemes import PLAIN, Scheme, Span, scheme_of, spans_of, tags_of

Distance = Literal["elementwise", "scalar", "none"]


def adjacent_distance(X: Tensor, mask: Tensor | None = None) -> Tensor:
    """|x_i - x_{i-1}|, number by number: how far each vector is from the one before it.

    Args:
        X: (B, n, d). mask: (B, n) bool, which are words; None for all.

    Returns:
        (B, n, d), 0 at the first word of each sentence and where there is none.
    """
    jump = torch.zeros_like(X)
    jump[:, 1:] = (X[:, 1:] - X[:, :-1]).abs()
    if mask is not None:
        jump[:, 1:] *= (mask[:, 1:] & mask[:, :-1])[..., None]
        jump[:, 0] = 0
    return jump


def with_distance(X: Tensor, mask: Tensor | None, distance: Distance) -> Tensor:
    """(B, n, d) vectors with their distances behind them: (B, n, 2 d), (B, n, d + 1) or as they
    are. The scalar is the Euclidean length of the jump.
    """
    if distance == "none":
        return X
    jump = adjacent_distance(X, mask)
    if distance == "scalar":
        jump = jump.square().sum(-1, keepdim=True).sqrt()
    return torch.cat([X, jump], dim=-1)


def with_distance_size(size: int, distance: Distance) -> int:
    """Numbers of a word."""
    return {"elementwise": 2 * size, "scalar": size + 1, "none": size}[distance]


def window_places(lengths: Sequence[int], size: int, *, stream: bool = False) -> np.ndarray:
    """(words, size) the words of each window, by their number in all sentences; -1 behind an end.

    Args:
        lengths: of the sentences.
        stream: all sentences are one long text, so that windows reach over their ends.
    """
    if size < 2:
        raise KnobError(f"window must be at least 2, got {size}")
    total = sum(lengths)
    places = np.arange(total)[:, None] + np.arange(size)
    ends = np.full(total, total) if stream else np.repeat(np.cumsum(lengths), lengths)
    return np.where(places < ends[:, None], places, -1)


def window_tuples(
    X: np.ndarray | Tensor, tags: Sequence[str], size: int = 5, *, inside: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The windows of a sentence and their labels.

    Args:
        X: (n, d) the vectors of its words. tags: n of them, of one type: BIO, IOBES or 0/1. Of 0/1
            two names in a row are one.
        inside: a window that begins within a name is labelled by what is left of it, not 0.

    Returns:
        (n, size * d) windows, zeros behind the end, and (n,) int64 labels 0 to `size`.

    Raises:
        KnobError: the window is too small. DataError: there are several types.
    """
    vectors = np.asarray(X)
    if len(vectors) != len(tags):
        raise DataError(f"there are {len(vectors)} vectors but {len(tags)} tags")
    places = window_places([len(vectors)], size)
    padded = np.concatenate([vectors, np.zeros_like(vectors[:1])])
    windows = padded[places].reshape(len(vectors), size * vectors.shape[1])
    spans = spans_of(tags, scheme_of([tags]))
    if len({span.type for span in spans}) > 1:
        raise DataError("windows of several types are labelled by TokenTagger; give tags of one")
    plain = [Span(start, end, PLAIN) for start, end, _ in spans]
    return windows, Runs([PLAIN], size, inside=inside).encode(plain, len(vectors))


def decode_windows(labels: Sequence[int] | np.ndarray, scheme: Scheme = "BIO") -> list[str]:
    """The tags that the labels of windows say, from left to right: k at word i makes i to i + k - 1
    one name, and the next label that counts is that of i + k.
    """
    codes = np.asarray(labels, dtype=np.int64)
    longest = max(int(codes.max(initial=1)), 1)
    return tags_of(Runs([PLAIN], longest).decode(codes), len(codes), scheme)
