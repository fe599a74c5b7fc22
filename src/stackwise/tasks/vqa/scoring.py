"""How answers are scored: right where they are the same text, in all and by kind of question."""

import re
from collections.abc import Sequence

import numpy as np

from stackwise.tasks.choices.task import same_answer
from stackwise.tasks.vqa.records import Asked


def right(asked: Sequence[Asked], said: Sequence[str]) -> np.ndarray:
    """(n,) bool: the same but for case, spaces and a last full stop."""
    return np.array([same_answer(_spaced(a), _spaced(one.answer))
                     for one, a in zip(asked, said, strict=True)], dtype=bool)  # fmt: skip


def scores_of(asked: Sequence[Asked], hits: np.ndarray) -> dict[str, float]:
    """`exact_match`, and the share of right answers to each kind of question."""
    kinds = np.array([one.kind for one in asked], dtype=object)
    by_kind = {
        f"accuracy_{re.sub(r'[^0-9A-Za-z]+', '_', kind).strip('_') or 'other'}":
        float(hits[kinds == kind].mean()) for kind in sorted(set(kinds))
    }  # fmt: skip
    return {"exact_match": float(hits.mean())} | by_kind


def _spaced(text: str) -> str:
    return " ".join(text.split())
