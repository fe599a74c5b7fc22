"""How far tags are from the truth, by whole names.

A name counts where its first word, its last word and its type are right (seqeval calls this
strict), over all sentences together (micro):

    precision = right / said        recall = right / true        F1 = 2 right / (said + true)

Apart from that for names that training has seen, letter for letter but for case, and for those that
it has not; and F1 over single words.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stackwise.tasks.tags.schemes import Span
from stackwise.tasks.tags.sentences import surface

COUNTS = ("right", "said", "true")


def span_f1(truth: Sequence[Sequence[Span]], said: Sequence[Sequence[Span]]) -> float:
    """Micro F1 over whole names; 0 where there is none on either side."""
    right = sum(len(set(one) & set(other)) for one, other in zip(truth, said, strict=True))
    total = sum(map(len, truth)) + sum(map(len, said))
    return 2 * right / total if total else 0.0


def counted(
    sentences: Sequence[Sequence[str]],
    truth: Sequence[Sequence[Span]],
    said: Sequence[Sequence[Span]],
    seen: Collection[str],
) -> pd.DataFrame:
    """A row a sentence: names that are right, said and true; those of them that training has seen;
    and the same of words.
    """
    rows = []
    for tokens, one, other in zip(sentences, truth, said, strict=True):
        both = set(one) & set(other)
        row: dict[str, int] = {}
        for name, found in zip(COUNTS, (both, other, one), strict=True):
            row[name] = len(found)
            row[f"{name}_seen"] = sum(surface(tokens, span) in seen for span in found)
        words = [_words(spans) for spans in (one, other)]
        row["right_words"] = len(words[0] & words[1])
        row["true_words"], row["said_words"] = len(words[0]), len(words[1])
        rows.append(row)
    return pd.DataFrame(rows)


def scores_of(counts: pd.DataFrame) -> dict[str, float]:
    """Every score by name, the deciding one first; recall and F1 of seen and unseen names where
    there are such.
    """
    total = counts.sum(numeric_only=True)
    right, said, true = (float(total[name]) for name in COUNTS)
    scores = {"f1": _f1(right, said, true)}
    scores["precision"] = right / said if said else 0.0
    scores["recall"] = right / true if true else 0.0
    seen = {name: float(total[f"{name}_seen"]) for name in COUNTS}
    parts = {"seen": seen, "unseen": {name: float(total[name]) - seen[name] for name in COUNTS}}
    for part, of in parts.items():
        if of["true"]:
            scores[f"f1_{part}"] = _f1(of["right"], of["said"], of["true"])
            scores[f"recall_{part}"] = of["right"] / of["true"]
    words = (float(total[f"{name}_words"]) for name in COUNTS)
    scores["token_f1"] = _f1(*words)
    return scores


def resampled_f1(counts: pd.DataFrame) -> Any:
    """(places of sentences, with repeats) -> F1 over their names."""
    right, said, true = (counts[name].to_numpy(dtype=np.float64) for name in COUNTS)
    return lambda rows: _f1(right[rows].sum(), said[rows].sum(), true[rows].sum())


def _f1(right: float, said: float, true: float) -> float:
    return float(2 * right / (said + true)) if said + true else 0.0


def _words(spans: Sequence[Span]) -> set[tuple[int, str]]:
    return {(place, span.type) for span in spans for place in range(span.start, span.end)}
