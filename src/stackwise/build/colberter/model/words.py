"""Texts as tokens, each of which knows the whole word that it is a piece of.

    reader = WholeWords(tokenizer, normalise="stem")
    (one,) = reader(["Running, he runs."])
    one.words       the ids of: run  ,  he  .       each word once, by rising id
    one.pieces      of each token, the id of its word; 0 of [CLS] and [SEP]

A text is parted at white space and at punctuation before it is cut into pieces, and every mark is a
word. A word's id is the first four bytes of the SHA-256 of its normal form, little-endian: there is
no vocabulary of words to keep. Id 0 is padding; a word that hashes to 0 is 1.
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stackwise.errors import DataError, ModelError
from stackwise.tasks.retrieval.porter import stem

Normal = Literal["lower", "stem"]
AT_ONCE = 512
"""Texts that are tokenized together."""


@functools.lru_cache(maxsize=1 << 17)
def word_id(word: str) -> int:
    """The 32-bit id of a word in its normal form; never 0."""
    found = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
    return found or 1


@dataclass(frozen=True)
class ReadText:
    """A text as a model reads it.

    Attributes:
        tokens: (n,) int64. pieces: (n,) int64, the word id of each token, 0 of special ones.
        words: (w,) int64 the ids of its words, each once, rising.
        surfaces: of each of these, how it stands in the text where it stands first.
    """

    tokens: np.ndarray
    pieces: np.ndarray
    words: np.ndarray
    surfaces: tuple[str, ...]


class WholeWords:
    """Read texts as tokens and whole words.

    Args:
        tokenizer: a fast one of transformers, which says where its tokens stand.
        normalise: words are one where they are equal in lower case, or by their Porter stems.
        most: tokens that are read, special ones among them. A word whose pieces are all cut off is
            none of the text's; of one that is cut in two, the pieces that are read count.
        whole: False reads every token as a word of its own, special ones too, with its token id.

    Raises:
        ModelError: the tokenizer does not say where tokens stand.
    """

    def __init__(
        self, tokenizer: Any, normalise: Normal = "stem", most: int = 200, *, whole: bool = True
    ) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"whole words need a fast tokenizer, which says where tokens stand; a "
                f"{type(tokenizer).__name__} does not"
            )
        from tokenizers.pre_tokenizers import BertPreTokenizer

        self.tokenizer, self.normalise, self.most, self.whole = tokenizer, normalise, most, whole
        self._parts = BertPreTokenizer()

    def normal(self, word: str) -> str:
        """The form in which words are compared."""
        lower = word.lower()
        return stem(lower) if self.normalise == "stem" else lower

    def parts(self, text: str) -> list[tuple[str, tuple[int, int]]]:
        """The words of a text and where they stand."""
        found: list[tuple[str, tuple[int, int]]] = self._parts.pre_tokenize_str(text)
        return found

    def __call__(self, texts: Sequence[str]) -> list[ReadText]:
        """Read texts.

        Raises:
            DataError: a text has no words after tokenisation; the sentence says which.
        """
        found: list[ReadText] = []
        for start in range(0, len(texts), AT_ONCE):
            part = list(texts[start : start + AT_ONCE])
            encoded = self.tokenizer(
                part, truncation=True, max_length=self.most, return_offsets_mapping=True
            )
            for place, text in enumerate(part):
                ids = np.asarray(encoded["input_ids"][place], dtype=np.int64)
                offsets = np.asarray(encoded["offset_mapping"][place]).reshape(-1, 2)
                one = self._read(text, ids, offsets)
                if not len(one.words):
                    raise DataError(f"{text[:60]!r} has no words after tokenisation")
                found.append(one)
        return found

    def _read(self, text: str, ids: np.ndarray, offsets: np.ndarray) -> ReadText:
        if not self.whole:
            surfaces = tuple(self.tokenizer.convert_ids_to_tokens(ids.tolist()))
            return ReadText(ids, ids + 1, ids + 1, surfaces)  # 0 is padding
        words = self.parts(text)
        if not words:
            return ReadText(ids, np.zeros_like(ids), ids[:0], ())
        starts = np.array([span[0] for _, span in words])
        ends = np.array([span[1] for _, span in words])
        own = np.array([word_id(self.normal(word)) for word, _ in words], dtype=np.int64)
        # the last sign of a token: byte-level tokens begin with the space before them
        last = offsets[:, 1] - 1
        place = np.searchsorted(starts, last, side="right") - 1
        inside = (offsets[:, 1] > offsets[:, 0]) & (place >= 0) & (last < ends[place])
        pieces = np.where(inside, own[place], 0)
        read = np.unique(place[inside])
        unique, first = np.unique(own[read], return_index=True)
        return ReadText(ids, pieces, unique, tuple(words[read[at]][0] for at in first))
