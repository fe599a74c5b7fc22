"""From what `fit` is given to pairs of texts: of a loaded task, of documents, or of two lists."""

from typing import Any

import numpy as np

from stackwise.errors import DataError
from stackwise.protocols import Task
from stackwise.tasks.retrieval.collection import Pair
from stackwise.tasks.retrieval.task import RetrievalTask

HELD = 0.1
"""Share of given pairs that say what is best, where there are enough."""
ENOUGH = 20


def learned_from(
    X: Any, y: Any, negatives: Any, scores: Any, seed: int
) -> tuple[Any, list[Pair], list[Pair]]:
    """The task, where there is one, and the training and the held-out pairs.

    Args:
        X: a task, or queries. Without y, documents: pairs are made of their titles.
        y: a text that answers each query. negatives: one that does not. scores: (n, 2) of both.

    Raises:
        DataError: there is too little to learn from, or lists do not go together.
    """
    task: Any = X if isinstance(X, Task) else None
    if task is None and y is None:
        task = RetrievalTask.load(X)
    if task is not None:
        return task, task.pairs("train"), task.pairs("validation")
    return (None, *pairs_given(X, y, negatives, scores, seed))


def pairs_given(
    queries: Any, positives: Any, negatives: Any, scores: Any, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """Pairs of texts, as training and held-out ones.

    Raises:
        DataError: they are of different lengths, or blank.
    """
    asked, right = list(queries), list(positives)
    wrong = [None] * len(asked) if negatives is None else list(negatives)
    if not asked or len(asked) != len(right) or len(asked) != len(wrong):
        raise DataError(
            f"{len(asked)} queries, {len(right)} positives and {len(wrong)} negatives do not go "
            "together; give a text that answers each query"
        )
    for place, text in enumerate([*asked, *right]):
        if not isinstance(text, str) or not any(sign.isalnum() for sign in text):
            raise DataError(f"text number {place % len(asked) + 1} is empty or no text")
    margins: list[Any] = [None] * len(asked)
    if scores is not None:
        table = np.asarray(scores, dtype=np.float32)
        if table.shape != (len(asked), 2) or negatives is None or not np.isfinite(table).all():
            raise DataError(
                f"teacher_scores are of the shape {table.shape}; give ({len(asked)}, 2) finite "
                "numbers, of the positive and of the negative"
            )
        margins = (table[:, 0] - table[:, 1]).tolist()
    every = zip(asked, right, wrong, margins, strict=True)
    made = [Pair(q, p, n, margin=margin) for q, p, n, margin in every]
    held = np.zeros(len(made), dtype=bool)
    if len(made) >= ENOUGH:
        order = np.random.default_rng(seed).permutation(len(made))
        held[order[: round(HELD * len(made))]] = True
    train, kept = ([one for one, out in zip(made, held) if out == part] for part in (False, True))
    return train, kept
