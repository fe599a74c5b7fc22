"""The encoder that texts go through, and what reads them for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stackwise.build.colberter.model.words import WholeWords
from stackwise.errors import KnobError
from stackwise.tasks.retrieval.estimators.encoder import (
    TextEncoder,
    named_encoder,
    text_encoder,
)


@dataclass(frozen=True)
class Reading(TextEncoder):
    """An encoder with what reads queries and passages for it."""

    queries: WholeWords
    passages: WholeWords


def reading_of(knobs: Any, found: TextEncoder) -> Reading:
    """An encoder, read as the knobs of a retriever say."""
    queries, passages = (
        WholeWords(
            found.tokenizer, knobs.normalise, found.opened.most(most), whole=knobs.whole_words
        )
        for most in (knobs.query_length, knobs.length)
    )
    return Reading(found.model, found.tokenizer, found.learns, found.reference, queries, passages)


def begun(knobs: Any, texts: Sequence[str], seed: int) -> Reading:
    """The encoder that the knobs name: opened, or a new one with byte pairs learned from texts.

    Raises:
        KnobError: `tune` is asked of no pretrained encoder.
    """
    reference = named_encoder(knobs.encoder)
    if knobs.tune and reference is None:
        raise KnobError(
            "tune is for a pretrained encoder, and a new one is made here, which learns anyway; "
            "name one, as in encoder=minilm"
        )
    context = max(knobs.length, knobs.query_length)
    return reading_of(
        knobs,
        text_encoder(reference, knobs, texts, learns=knobs.tune, context=context, seed=seed),
    )
