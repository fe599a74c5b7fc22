"""Words, their shapes and those of their neighbours, and logistic regression.

    Xanax 0.5mg    of Xanax: the word, its first and last letters, its shape Xxx, whether it has a
                   digit or a sign; of the two words on each side the word and its shape

What linear taggers had before networks, and still hard to beat on little text.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from scipy.sparse import csr_array

from stackwise.catalog import Knob, baseline
from stackwise.errors import DataError
from stackwise.tasks.tags.baselines.linear import LinearTagger
from stackwise.tasks.tags.estimators.estimator import TaggedRows
from stackwise.tasks.tags.words import key_of

EDGE = "\n"
"""What stands before the first word and behind the last one; no word is that."""


@baseline(
    "word-windows",
    title="Words, shapes and neighbours, logistic regression",
    presets={"quick": {"max_steps": 50, "penalty": 1.0}},
)
class WordWindowsTagger(LinearTagger):
    """Logistic regression on words, their shapes and those of their neighbours.

    Fitted, besides: `features_`, what is known of words, by the column.
    """

    def __init__(
        self,
        *,
        window: Annotated[int, Knob("neighbours on each side", ge=0, le=5, search=(1, 3))] = 2,
        least: Annotated[int, Knob("words that must have a feature, else it is dropped", ge=1)] = 2,
    ) -> None:
        """Words and their neighbours."""

    features_: dict[str, int]

    def _learn_features(self, train: TaggedRows) -> None:
        counts = Counter(one for words in train.sentences for of in self._told(words) for one in of)
        kept = sorted(one for one, count in counts.items() if count >= self.least)
        if not kept:
            raise DataError(
                f"no feature of a word occurs {self.least} times in the training sentences; give "
                "more of them, or set least=1"
            )
        self.features_ = {one: place for place, one in enumerate(kept)}

    def _told(self, words: list[str]) -> "list[list[str]]":
        """What is known of each word of a sentence."""
        near = self.window
        padded = [EDGE] * near + words + [EDGE] * near
        around = [_about(word)[0] for word in padded]
        own = [_about(word)[1] for word in words]
        found = []
        for place in range(len(words)):
            told = [f"{offset}{one}" for offset in range(2 * near + 1) if offset != near
                    for one in around[place + offset]]  # fmt: skip
            found.append([*own[place], *told])
        return found

    def _matrix(self, sentences: list[list[str]]) -> csr_array:
        """(words, features) zeros and ones, in sparse rows."""
        columns: list[int] = []
        ends = [0]
        known = self.features_
        for words in sentences:
            for told in self._told(words):
                columns += [place for one in told if (place := known.get(one)) is not None]
                ends.append(len(columns))
        ones = np.ones(len(columns))
        shape = (len(ends) - 1, len(known))
        return csr_array((ones, np.array(columns, dtype=np.int64), np.array(ends)), shape=shape)

    def _write(self, folder: Path) -> dict[str, Any]:
        return super()._write(folder) | {"features": list(self.features_)}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.features_ = {str(one): place for place, one in enumerate(record["features"])}


@lru_cache(maxsize=100_000)
def _about(word: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a word is as a neighbour, and as itself."""
    if word == EDGE:
        return (" edge",), (" edge",)
    key, shape = key_of(word), shape_of(word)
    near = (f" word {key}", f" shape {shape}")
    own = [f"word {key}", f"shape {shape}"]
    own += [f"first {key[:size]}" for size in range(1, 5) if len(key) > size]
    own += [f"last {key[-size:]}" for size in range(1, 5) if len(key) > size]
    return near, tuple(own)


def shape_of(word: str) -> str:
    """Its letters as X and x, digits as 9, other signs as they are; what repeats is there twice at
    most: Xanax is Xxx, COVID19 is XX99.
    """
    found: list[str] = []
    for sign in word:
        category = unicodedata.category(sign)
        kind = "X" if category in ("Lu", "Lt") else "x" if category[0] in "LM" else sign
        kind = "9" if category[0] == "N" else kind
        if found[-2:] != [kind, kind]:
            found.append(kind)
    return "".join(found)
