"""Texts to vectors with a fitted network: documents for an index, queries for a search."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from stackwise.build.colberter.index.searching import QueryVectors
from stackwise.build.colberter.index.segment import Encoded
from stackwise.build.colberter.model.network import ColBERTer, Vectors
from stackwise.build.colberter.model.passages import passages_of
from stackwise.build.colberter.model.states import pooled_states
from stackwise.build.colberter.model.words import WholeWords
from stackwise.build.colberter.reading import Reading
from stackwise.tasks.retrieval.collection import Document

AT_ONCE = 128
"""Passages that are in memory as an encoder's states."""
ROWS = 32


def encoder_of(reading: Reading, network: ColBERTer) -> Any:
    """The encoder that learned along, or the frozen one."""
    return network.encoder if reading.learns else reading.model


@torch.no_grad()
def encode_documents(
    reading: Reading, network: ColBERTer, documents: Sequence[Document]
) -> tuple[Encoded, int]:
    """What an index keeps of documents, and of how many passages every gate was closed."""
    most = reading.passages.most - reading.tokenizer.num_special_tokens_to_add()
    texts, owner = [], []
    for place, one in enumerate(documents):
        for passage in passages_of(one.whole, most, lambda some: counted(reading.passages, some)):
            texts.append(passage)
            owner.append(place)
    encoder = encoder_of(reading, network)
    cls, vectors, words, counts, closed = [], [], [], [], 0
    for start in range(0, len(texts), AT_ONCE):
        states = pooled_states(
            encoder, reading.passages, texts[start : start + AT_ONCE], half=False
        )
        for first in range(0, len(states), ROWS):
            rows = np.arange(first, min(first + ROWS, len(states)))
            found = network.documents(states.padded(rows))
            kept = kept_words(found)
            cls.append(found.cls.numpy())
            vectors.append(found.vectors[kept].numpy())
            words.append(found.words[kept].numpy())
            counts.append(kept.sum(1).numpy())
            if found.gates is not None:
                closed += int(((found.gates * found.real).sum(1) == 0).sum())
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return (
        Encoded(np.concatenate(cls), np.concatenate(vectors), np.concatenate(words), offsets,
                np.array(owner)),
        closed,
    )  # fmt: skip


def kept_words(found: Vectors) -> torch.Tensor:
    """(B, w) bool which words an index keeps: those whose gate is open, and one at least."""
    if found.gates is None:
        return found.real
    kept = found.real & (found.gates > 0)
    first = found.real & (found.real.cumsum(1) == 1)
    return kept | (first & ~kept.any(1, keepdim=True))


@torch.no_grad()
def encode_queries(
    reading: Reading, network: ColBERTer, queries: Sequence[str]
) -> list[QueryVectors]:
    """Queries as they are matched."""
    encoder = encoder_of(reading, network)
    states = pooled_states(encoder, reading.queries, queries, half=False, block=1)
    made = []
    for row in range(len(states)):
        found = network.queries(states.padded([row]))
        made.append(QueryVectors(
            found.cls[0].numpy(), found.vectors[0].numpy(), found.words[0].numpy(),
            float(network.cls_weight), network.exact_match,
        ))  # fmt: skip
    return made


def counted(reader: WholeWords, texts: list[str]) -> list[int]:
    """Tokens of each text, special ones left out."""
    found = reader.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return [len(ids) for ids in found]
