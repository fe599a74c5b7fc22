"""Which windows a network learns from: all, or those like the ones that names begin.

Nearly all windows hold no name. The paper drops a part of them by what the training data is like,
and compares partitions; its cuts are not known. Here

    frequency   words are ranked by how often they occur; kept are windows whose first word lies in
                the band of ranks that holds nearly all (98 %) first words of names
    cluster     windows are parted by k-means; kept are the clusters, those with the most names
                first, that hold nearly all (95 %) names

Windows that begin a name always stay.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from stackwise.tasks.tags.words import key_of

Select = Literal["all", "frequency", "cluster"]
BAND, NEARLY_ALL = 0.98, 0.95
CLUSTERS = 8
MOST_FITTED = 20_000
"""Windows by which clusters are found."""


def selected(
    select: Select, sentences: Sequence[Sequence[str]], windows: np.ndarray, labels: np.ndarray,
    table: np.ndarray, seed: int,
) -> np.ndarray:  # fmt: skip
    """The numbers of the windows that are kept, sorted.

    Args:
        windows: (n, size) rows of `table` (rows, d); the last row is that of no word.
        labels: (n,) 0 where no name begins.
    """
    begins = labels > 0
    if select == "all" or not begins.any():
        return np.arange(len(labels))
    if select == "frequency":
        keep = _in_band(sentences, begins)
    else:
        keep = _in_clusters(table[windows].reshape(len(windows), -1), begins, seed)
    return np.flatnonzero(keep | begins)


def _in_band(sentences: Sequence[Sequence[str]], begins: np.ndarray) -> np.ndarray:
    words = [key_of(word) for row in sentences for word in row]
    counts = Counter(words)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    place = {word: rank for rank, word in enumerate(ranked)}
    ranks = np.array([place[word] for word in words])
    edge = (1 - BAND) / 2
    low, high = np.quantile(ranks[begins], [edge, 1 - edge])
    return np.asarray((ranks >= low) & (ranks <= high))


def _in_clusters(windows: np.ndarray, begins: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans

    count = min(CLUSTERS, len(windows))
    drawn = np.random.default_rng(seed).permutation(len(windows))[:MOST_FITTED]
    model = MiniBatchKMeans(count, random_state=seed, n_init=3).fit(windows[drawn])
    found = model.predict(windows)
    names = np.bincount(found[begins], minlength=count)
    sizes = np.maximum(np.bincount(found, minlength=count), 1)
    held, kept = 0, []
    for cluster in np.argsort(-names / sizes, kind="stable"):
        kept.append(cluster)
        held += names[cluster]
        if held >= NEARLY_ALL * begins.sum():
            break
    return np.isin(found, kept)
