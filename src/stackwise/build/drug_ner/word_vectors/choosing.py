"""The vectors that a tagger's knobs ask for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stackwise.build.drug_ner.word_vectors.lookup import (
    EncoderVectors,
    Vectors,
    given_vectors,
    train_vectors,
)
from stackwise.errors import KnobError
from stackwise.tasks.labels.estimators.pretrained import opened
from stackwise.tasks.language.encoding import plain_text
from stackwise.tasks.tags.words import words_of

SKIPGRAM = "skipgram"


def chosen_vectors(
    knobs: Any, sentences: list[list[str]], seed: int, trainer: Callable[..., Any]
) -> Vectors:
    """Train vectors, or take those that are given.

    Args:
        knobs: has those of `TokenTagger`. sentences: of training, without their tags.
        trainer: as of `train_vectors`.

    Raises:
        DataError, KnobError: they cannot be used, or a knob says nothing beside another.
    """
    given = knobs.vectors
    if isinstance(given, str) and given == SKIPGRAM:
        return train_vectors(
            [*sentences, *_further(knobs.text)], knobs.vector_size, min_count=knobs.min_count,
            epochs=knobs.vector_epochs, seed=seed, pieces=knobs.unknown == "pieces",
            trainer=trainer,
        )  # fmt: skip
    for name, usual in (("text", None), ("unknown", "mean")):
        if getattr(knobs, name) != usual:
            raise KnobError(f"{name} is of vectors that are trained; leave it out beside vectors")
    if isinstance(given, (str, Path)) and not Path(given).is_file():
        return EncoderVectors(opened(given))
    return given_vectors(given, knobs.vector_size)


def _further(text: Any) -> list[list[str]]:
    """The words of each line of a file, or of each of some texts."""
    if text is None:
        return []
    lines: Sequence[str] = (
        plain_text(Path(text)).split("\n") if isinstance(text, (str, Path)) else list(text)
    )
    return [words for line in lines if (words := words_of(line).tokens)]
