"""The vectors of words: learned here, given, or those of a pretrained encoder.

    train_vectors(sentences, size=100).lookup([["I", "took", "Xanax"]])

A word is looked up as it reads, in lower case. One that has no vector gets the mean of all, or with
pieces what its letters say.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from stackwise.build.drug_ner.word_vectors.skipgram import (
    PlaceBatches,
    SkipGram,
    counted,
    pieces_of,
)
from stackwise.errors import DataError, KnobError
from stackwise.files import read_tensors
from stackwise.tasks.labels.estimators.pretrained import Opened
from stackwise.tasks.language.encoding import plain_text
from stackwise.tasks.tags.estimators.token_vectors import width_of, word_vectors
from stackwise.tasks.tags.words import key_of
from stackwise.training.loop import train
from stackwise.training.rules import Backprop

BATCH = 1024
"""Places of a step of skip-gram."""
RATE = 5e-3
"""Its learning rate."""


@dataclass(frozen=True)
class Looked:
    """The vectors of sentences.

    Attributes:
        table: (rows, size) float32. ids: (words of all sentences,) the row of each.
    """

    table: np.ndarray
    ids: np.ndarray


class Vectors(Protocol):
    """What has a vector for each word of a sentence."""

    @property
    def size(self) -> int: ...
    def lookup(self, sentences: Sequence[Sequence[str]]) -> Looked:
        """The vectors of all words of some sentences."""
        ...


@dataclass
class WordVectors:
    """A vector a word, whatever stands around it.

    Attributes:
        words: by which a row of `table` (V, size) is found. pieces: (buckets, size) of runs of
            letters, for words that are not there; None takes the mean of all.
    """

    words: dict[str, int]
    table: np.ndarray
    pieces: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Numbers of a vector."""
        return int(self.table.shape[1])

    def lookup(self, sentences: Sequence[Sequence[str]]) -> Looked:
        """The vectors of all words of some sentences."""
        more: dict[str, int] = {}
        ids = np.empty(sum(map(len, sentences)), dtype=np.int64)
        first, place = len(self.table), 0
        cached: dict[str, int] = {}
        for words in sentences:
            for word in words:
                row = cached.get(word)
                if row is None:
                    key = key_of(word)
                    known = self.words.get(key)
                    if known is None:
                        known = more.setdefault(key if self.pieces is not None else "",
                                                first + len(more))  # fmt: skip
                    row = cached[word] = known
                ids[place] = row
                place += 1
        if not more:
            return Looked(self.table, ids)
        mean = self.table.mean(0)
        rows = [mean if self.pieces is None else self._of_pieces(key, mean) for key in more]
        return Looked(np.concatenate([self.table, np.stack(rows)]).astype(np.float32), ids)

    def _of_pieces(self, key: str, mean: np.ndarray) -> np.ndarray:
        assert self.pieces is not None
        rows = pieces_of(key)
        return self.pieces[rows].mean(0) if rows else mean


@dataclass
class EncoderVectors:
    """The vectors of a pretrained encoder, which has read the sentence.

    Attributes:
        opened: the encoder and its tokenizer. length: pieces that are read together, at most.
    """

    opened: Opened
    length: int = 256

    @property
    def size(self) -> int:
        """Numbers of a vector."""
        return width_of(self.opened)

    def lookup(self, sentences: Sequence[Sequence[str]]) -> Looked:
        """The vectors of all words of some sentences."""
        found = word_vectors(self.opened, sentences, self.length)
        return Looked(found, np.arange(len(found)))


def train_vectors(
    sentences: Sequence[Sequence[str]], size: int = 100, window: int = 5, min_count: int = 2,
    epochs: int = 15, seed: int = 0, *, pieces: bool = False, trainer: Any = None,
) -> WordVectors:  # fmt: skip
    """Learn word vectors from sentences; see `stackwise.build.drug_ner.word_vectors.skipgram`.

    Args:
        sentences: lists of words, without labels. size: numbers of a vector.
        window: words on each side that count as near, at most.
        min_count: words with fewer places have no vector of their own.
        pieces: words that are not there get what their letters say.
        trainer: (network, rule, batches, epochs) -> the trained network; by default the loop alone.

    Raises:
        DataError: no word has so many places.
    """
    keys = [[key_of(word) for word in words] for words in sentences]
    counts = counted(keys, min_count)
    if not counts:
        raise DataError(
            f"no word occurs {min_count} times in the text of the vectors; give more text, or a "
            "smaller min_count"
        )
    words = {word: place for place, word in enumerate(counts)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rows = [pieces_of(word) for word in words] if pieces else None
        network = SkipGram(list(counts.values()), size, rows)
    ids = [[words.get(key, -1) for key in row] for row in keys]
    batches = PlaceBatches(
        ids, list(counts.values()), window=window, batch_size=BATCH, seed=seed
    )  # fmt: skip
    if not len(batches):
        raise DataError("no sentence has two words with vectors; give longer ones")
    rule = Backprop(lambda model, batch: model(**batch), lr=RATE, grad_clip=None)
    if trainer is None:
        train(network, rule, batches, max_epochs=epochs, seed=seed, device="cpu")
    else:
        network = trainer(network, rule, batches, epochs)
    network = network.cpu()
    grams = None if network.grams is None else network.grams.detach().numpy().copy()
    return WordVectors(words, network.table().numpy().copy(), grams)


def given_vectors(given: Any, size: int | None = None) -> WordVectors:
    """Vectors that a user has: a mapping, gensim's KeyedVectors, or a file.

    Args:
        given: word -> numbers; an object with `key_to_index` and `vectors`; or the path of a text
            file, a word and its numbers a line (word2vec's, GloVe's), or of what `kept` wrote.
        size: that is expected of them.

    Raises:
        DataError: they are none, or of different sizes. KnobError: they are of another size.
    """
    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        found = _of_tensors(path) if path.suffix == ".safetensors" else _of_lines(path)
    elif hasattr(given, "key_to_index") and hasattr(given, "vectors"):
        rows = np.asarray(given.vectors, dtype=np.float32)
        found = _joined({str(word): rows[place] for word, place in given.key_to_index.items()})
    elif isinstance(given, Mapping):
        found = _joined(
            {str(word): np.asarray(row, dtype=np.float32) for word, row in given.items()}
        )
    else:
        raise DataError(
            f"vectors are a mapping, a file or KeyedVectors, and this is a {type(given).__name__}"
        )
    if size is not None and found.size != size:
        raise KnobError(f"vectors have size {found.size}, vector_size is {size}")
    return found


def _joined(rows: Mapping[str, np.ndarray]) -> WordVectors:
    """A row a word; of words that differ in case alone the first one's."""
    kept: dict[str, np.ndarray] = {}
    for word, row in rows.items():
        kept.setdefault(key_of(word), row)
    if not kept:
        raise DataError("there are no vectors")
    sizes = {row.shape for row in kept.values()}
    if len(sizes) > 1 or next(iter(sizes)) == () or len(next(iter(sizes))) != 1:
        raise DataError(f"vectors have different shapes: {sorted(sizes)[:3]}; each is (size,)")
    table = np.stack(list(kept.values()))
    if not np.isfinite(table).all():
        raise DataError("vectors hold numbers that are not finite")
    return WordVectors({word: place for place, word in enumerate(kept)}, table)


def _of_lines(path: Path) -> WordVectors:
    rows: dict[str, np.ndarray] = {}
    for number, line in enumerate(plain_text(path).split("\n"), start=1):
        cells = line.rstrip().split(" ")
        if len(cells) < 2 or (number == 1 and len(cells) == 2 and all(c.isdigit() for c in cells)):
            continue  # word2vec's first line: how many, and of which size
        try:
            rows.setdefault(cells[0], np.array(cells[1:], dtype=np.float32))
        except ValueError as error:
            raise DataError(f"line {number} of {path} is no word and its numbers") from error
    return _joined(rows)


def _of_tensors(path: Path) -> WordVectors:
    words = path.with_suffix(".txt")
    if not words.is_file():
        raise DataError(f"{path} has no list of its words beside it, {words.name}: one a line")
    table = read_tensors(path).get("vectors")
    listed = plain_text(words).split("\n")
    listed = listed[:-1] if listed and not listed[-1] else listed
    if table is None or table.ndim != 2 or len(table) != len(listed):
        raise DataError(f"{path} does not hold `vectors`, a row for each line of {words.name}")
    return _joined(dict(zip(listed, table.float().numpy(), strict=True)))
