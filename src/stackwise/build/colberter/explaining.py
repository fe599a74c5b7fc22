"""Which words of a document answered which words of a query, from the vectors that are stored."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from stackwise.build.colberter.index.folder import Index
from stackwise.build.colberter.index.searching import QueryVectors, flat_maxsim, words_matched
from stackwise.build.colberter.model.words import WholeWords, word_id
from stackwise.build.colberter.pages.explained import WHOLE


def document_scores(index: Index, query: QueryVectors, name: str) -> tuple[float, int, int]:
    """The merged score of a document, by its best passage; its segment and that passage."""
    at, number = index.places()[name]
    segment = index.segments[at]
    passages = np.flatnonzero(segment.document == number)
    words, vectors, starts = segment.words_of(passages)
    pair = (query.words, words) if query.exact else None
    token = flat_maxsim(query.vectors, vectors, starts, pair)
    scores = query.weight * (segment.cls[passages] @ query.cls) + (1 - query.weight) * token
    best = int(scores.argmax())
    return float(scores[best]), at, int(passages[best])


def matched_words(
    retriever: Any, query: str, asked: QueryVectors, name: str
) -> list[tuple[str, int, float]]:
    """Of each query word its surface, the id of the document word that it matched, and what that
    gave; the texts' own vectors come last, with id 0.
    """
    index = retriever.index_
    _, at, passage = document_scores(index, asked, name)
    segment = index.segments[at]
    words, vectors, _ = segment.words_of(np.array([passage]))
    places, products = words_matched(asked, words, vectors)
    (read,) = retriever.reading_.queries([query])
    found = [
        (surface, int(words[place]), (1 - asked.weight) * float(product))
        for surface, place, product in zip(read.surfaces, places, products, strict=True)
    ]
    whole = asked.weight * float(segment.cls[passage] @ asked.cls)
    return [*found, (WHOLE, 0, whole)]


def surfaces_of(retriever: Any, text: str) -> dict[int, str]:
    """How words stand in a text, by id."""
    reader: WholeWords = retriever.reading_.passages
    found: dict[int, str] = {}
    if not reader.whole:
        ids = reader.tokenizer(text, verbose=False)["input_ids"]
        signs = reader.tokenizer.convert_ids_to_tokens(ids)
        return {one + 1: sign for one, sign in zip(ids, signs, strict=True)}
    for word, _ in reader.parts(text):
        found.setdefault(word_id(reader.normal(word)), word)
    return found


def explained_table(retriever: Any, query: str, asked: QueryVectors, name: str) -> pd.DataFrame:
    """`query_word`, `document_word`, `score` and `share` of the sum of their sizes."""
    text = retriever.document(name).whole
    shown = surfaces_of(retriever, text)
    rows = [
        {"query_word": word, "document_word": shown.get(other, WHOLE), "score": score}
        for word, other, score in matched_words(retriever, query, asked, name)
    ]
    table = pd.DataFrame(rows)
    sizes = table["score"].abs()
    return table.assign(share=sizes / max(float(sizes.sum()), 1e-12))


def explained_hit(
    retriever: Any, query: str, asked: QueryVectors, name: str
) -> dict[str, Sequence[Any]]:
    """What a hit says besides: `words`, and `spans` of its text with what each gave."""
    text = retriever.document(name).whole
    given: dict[int, float] = {}
    shown = surfaces_of(retriever, text)
    rows = []
    for word, other, score in matched_words(retriever, query, asked, name):
        rows.append({"query_word": word, "document_word": shown.get(other, WHOLE), "score": score})
        if other:
            given[other] = given.get(other, 0.0) + score
    reader: WholeWords = retriever.reading_.passages
    spans, place = [], 0
    for word, (begin, end) in reader.parts(text):
        if begin > place:
            spans.append({"text": text[place:begin], "score": 0.0})
        spans.append({"text": word, "score": given.get(word_id(reader.normal(word)), 0.0)})
        place = end
    spans.append({"text": text[place:], "score": 0.0})
    return {"words": rows, "spans": [one for one in spans if one["text"]]}
