"""From pairs of texts to what is trained on: negatives, margins, encoded sides."""

from pathlib import Path
from typing import Any

import numpy as np

from stackwise.build.colberter.model.states import (
    PooledStates,
    TokenTexts,
    pooled_states,
    token_texts,
)
from stackwise.build.colberter.reading import Reading
from stackwise.errors import ModelError
from stackwise.models import load_learner
from stackwise.tasks.retrieval.baselines.bm25 import BM25Retriever
from stackwise.tasks.retrieval.estimators.pairs import TrainingPairs, draw_negatives
from stackwise.training.session import count_aloud


def taught(found: TrainingPairs, teacher: Any, negatives: str, seed: int) -> None:
    """Give pairs the negatives and margins that the knobs ask for.

    Raises:
        ModelError: the teacher scores no texts.
    """
    if teacher is not None and found.margins is None:
        if found.negatives is None:
            draw_negatives(found, "random" if negatives == "none" else negatives, seed)
        teach(found, opened_teacher(teacher))
    elif negatives != "none" and found.negatives is None:
        draw_negatives(found, negatives, seed)


def teach(found: TrainingPairs, teacher: Any) -> None:
    """Let a teacher score both documents of each pair: `score_pairs(queries, texts)`."""
    assert found.negatives is not None
    asked = [found.queries[query] for query in found.pairs[:, 0]]
    right = [found.documents[place] for place in found.pairs[:, 1]]
    wrong = [found.documents[place] for place in found.negatives]
    scores = np.asarray(teacher.score_pairs(asked + asked, right + wrong), dtype=np.float32)
    found.margins = scores[: len(asked)] - scores[len(asked) :]


def opened_teacher(reference: Any) -> Any:
    """A retriever that scores pairs: BM25, one in a folder, or an object."""
    if isinstance(reference, str) and reference == "bm25":
        return BM25Retriever()
    found = load_learner(Path(reference)) if isinstance(reference, (str, Path)) else reference
    if not hasattr(found, "score_pairs"):
        raise ModelError(
            f"a {type(found).__name__} scores no texts; give bm25 or a retriever's run"
        )
    return found


def prepared(reading: Reading, found: TrainingPairs, what: str) -> tuple[Any, Any]:
    """What is known of the queries and of the documents: pooled states of a frozen encoder, or
    tokens for one that learns.
    """
    tell = count_aloud(what, len(found.queries) + len(found.documents))
    sides: list[PooledStates | TokenTexts] = []
    for reader, texts in ((reading.queries, found.queries), (reading.passages, found.documents)):
        if reading.learns:
            sides.append(token_texts(reader, texts))
        else:
            sides.append(pooled_states(reading.model, reader, texts, tell=tell))
    queries, documents = sides
    return queries, documents
