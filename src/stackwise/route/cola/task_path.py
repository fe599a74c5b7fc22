"""One path for a whole task: what many questions' paths have in common, kept as a model.

The paths that searches found for training questions are tried on all of them; those that are right
most often are tried on the validation questions, and the shortest that is no worse there than the
model itself, less a tolerance, is kept. Nothing here looks at test questions.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from stackwise.route.cola.actions import Path
from stackwise.route.cola.questions import Asked, Asker, Outcome, agrees
from stackwise.stack import Stack


@dataclass(frozen=True)
class Candidate:
    """A path with its accuracy on training and validation questions."""

    path: Path
    train: float
    validation: float


def task_path(
    model: Any,
    tokenizer: Any,
    outcomes: Sequence[Outcome],
    train: Sequence[Asked],
    validation: Sequence[Asked],
    *,
    candidates: int = 64,
    finalists: int = 12,
    tolerance: float = 0.0,
    most_bytes: int = 2**29,
) -> tuple[Candidate, list[Candidate]]:
    """The path to keep, and all finalists with the model's own order among them, shortest first.

    Args:
        outcomes: of searches on the training questions.
        candidates: paths that are tried on all training questions, those first that answered most
            of the questions for which they were tried.
        tolerance: accuracy on validation questions that may be lost.
    """
    own = tuple(range(len(Stack.of(model))))
    pool = [own, *(path for path in _most_right(outcomes) if path != own)][: candidates + 1]
    on_train = dict(zip(pool, accuracies(model, tokenizer, train, pool, most_bytes), strict=True))
    ranked = sorted(pool[1:], key=lambda path: (-on_train[path], len(path), path))
    # some short ones too: the most accurate on training questions are often the longest
    short = sorted(ranked[: candidates // 2], key=lambda path: (len(path), -on_train[path], path))
    last = list(dict.fromkeys([own, *ranked[: finalists // 2], *short]))[: finalists + 1]
    scores = accuracies(model, tokenizer, validation, last, most_bytes)
    judged = [
        Candidate(path, on_train[path], score) for path, score in zip(last, scores, strict=True)
    ]
    least = judged[0].validation - tolerance
    kept = min(
        (one for one in judged if one.validation >= least),
        key=lambda one: (len(one.path), -one.validation, -one.train, one.path),
    )
    return kept, sorted(judged, key=lambda one: (len(one.path), one.path))


def accuracies(
    model: Any,
    tokenizer: Any,
    asked: Sequence[Asked],
    paths: Sequence[Path],
    most_bytes: int = 2**29,
) -> list[float]:
    """The share of questions that each path answers rightly."""
    hits = torch.zeros(len(paths))
    for start in range(0, len(asked), 16):
        group = asked[start : start + 16]
        asker = Asker(model, tokenizer, group, most_bytes=most_bytes)
        asker.ask([(i, path) for i in range(len(group)) for path in sorted(paths)])
        for i, one in enumerate(group):
            for place, path in enumerate(paths):
                hits[place] += agrees(asker.said[i][path], one.question.answer)
    return [float(hit) / len(asked) for hit in hits]


def angular_path(model: Any, tokens: Sequence[Sequence[int]], drop: int) -> Path:
    """The model's order without the `drop` blocks that turn the stream least, each by itself.

    By the mean angle between what goes into a block and what comes out (arXiv 2403.17887), at the
    last token of the prompts.
    """
    stack = Stack.of(model)
    device = next(model.parameters()).device
    turned = torch.zeros(len(stack))
    with torch.no_grad():
        for row in tokens:
            with stack.capture() as stream:
                model(input_ids=torch.tensor([list(row)], device=device), use_cache=False)
            ends = torch.stack([hidden[0, -1].float().cpu() for hidden in stream.hidden])
            cosine = torch.cosine_similarity(ends[:-1], ends[1:], dim=-1).clamp(-1, 1)
            turned += cosine.acos()
    gone = set(turned.argsort()[:drop].tolist())
    return tuple(index for index in range(len(stack)) if index not in gone)


def _most_right(outcomes: Sequence[Outcome]) -> list[Path]:
    """Paths by the questions they answered, less those that they did not; shorter ones first."""
    balance: Counter[Path] = Counter()
    for one in outcomes:
        for path, said in one.said.items():
            balance[path] += 1 if agrees(said, one.answer) else -1
    return sorted(balance, key=lambda path: (-balance[path], len(path), path))
