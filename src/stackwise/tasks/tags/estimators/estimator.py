"""What every estimator on tagged texts shares: sentences in, names out.

model.fit(sentences, tags)          lists of words, and a tag for each: BIO, IOBES or 0/1
model.predict(sentences)            tags, as those of `fit`
model.entities("I take Xanax.")     [{"start": 7, "end": 12, "text": "Xanax", ...}]
model.score(sentences, tags)        F1 over whole names
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from stackwise.errors import DataError, nearest
from stackwise.learning.learner import Learner
from stackwise.protocols import Task
from stackwise.tasks.tags.estimators.coding import Scored
from stackwise.tasks.tags.schemes import Scheme, Span, tags_of
from stackwise.tasks.tags.scoring import span_f1
from stackwise.tasks.tags.sentences import Sentence, check_sentences, check_tagged
from stackwise.tasks.tags.words import words_of
from stackwise.tasks.tags.writing import found_in


@dataclass(frozen=True)
class TaggedRows:
    """Sentences to learn from.

    Attributes:
        sentences: their words. spans: the names of each.
    """

    sentences: list[list[str]]
    spans: list[list[Span]]

    def __len__(self) -> int:
        return len(self.sentences)

    def take(self, rows: np.ndarray) -> "TaggedRows":
        """These sentences."""
        kept = rows.tolist()
        return TaggedRows([self.sentences[n] for n in kept], [self.spans[n] for n in kept])


class TagEstimator(Learner):
    """An estimator on tagged texts.

    Fitted: `types_`, of the names, sorted, and `scheme_`, in which it was told them.
    """

    tasks: ClassVar[tuple[str, ...]] = ("tags",)
    fitted: ClassVar[str] = "types_"

    types_: list[str]
    scheme_: Scheme

    def fit(self, X: Any, y: Any = None, *, validation: tuple[Any, Any] | None = None) -> Self:
        """Learn from tagged sentences.

        Args:
            X: n lists of words; or a frame with a row a word (`sentence_id`, `token`, `tag`), or a
                loaded task, and nothing else.
            y: n lists of tags, as long as the sentences: BIO, IOBES or 0/1.
            validation: (X, y) that decide when to stop and what is tuned, in place of a part of the
                sentences.

        Raises:
            DataError: nothing can be learned from this input; the sentence says why.
            KnobError: a knob is out of range.
        """
        if y is None and isinstance(X, Task):
            X.fit(self)
            return self
        self._begin()
        sentences, spans, self.scheme_ = check_tagged(X, y)
        if not any(spans):
            raise DataError("no token is labelled as an entity; there is nothing to learn")
        train, held = self._split(TaggedRows(sentences, spans), validation)
        self.types_ = sorted({span.type for of in train.spans for span in of})
        self._learn(train, held)
        return self

    def scored_spans(self, X: Any) -> list[list[Scored]]:
        """The names in each of n lists of words: start, end, type and how sure that is, 0 to 1."""
        raise DataError(f"{type(self).__name__} does not say how it finds names")

    def predict(self, X: Any) -> list[list[str]]:
        """The tags of n lists of words, in the scheme of `fit`; an empty list has none."""
        sentences = check_sentences(X)
        found = self.scored_spans(sentences)
        return [
            tags_of([Span(*one[:3]) for one in of], len(words), self.scheme_)
            for words, of in zip(sentences, found, strict=True)
        ]

    def entities(self, text: str) -> list[dict[str, Any]]:
        """The names in a text, each line of which is read by itself.

        Returns:
            `start` and `end` (characters; `text[start:end]` is the name), `text`, `label` and
            `score` of each, in their order.

        Raises:
            DataError: it is no text.
        """
        check_is_fitted(self, self.fitted)
        if not isinstance(text, str):
            raise DataError(f"entities takes a text, and this is a {type(text).__name__}")
        lines, start = [], 0
        for line in text.split("\n"):
            words = words_of(line)
            places = [(a + start, b + start) for a, b in words.places]
            lines.append(Sentence(words.tokens, text, places))
            start += len(line) + 1
        found = self.scored_spans([line.tokens for line in lines])
        pairs = zip(lines, found, strict=True)
        return [found_in(line, *span) for line, spans in pairs for span in spans]

    def score(self, X: Any, y: Any = None) -> float:
        """Micro F1 over whole names: first word, last word and type must be right.

        Raises:
            DataError: a tag is of a type that training lacked.
        """
        sentences, truth, _ = check_tagged(X, y)
        for of in truth:
            for span in of:
                if span.type not in self.types_:
                    raise DataError(
                        f'unknown tag "{span.type}"; training had {", ".join(self.types_[:8])}.'
                        f"{nearest(span.type, self.types_)}"
                    )
        found = [[Span(*one[:3]) for one in of] for of in self.scored_spans(sentences)]
        return span_f1(truth, found)

    def _learn(self, train: TaggedRows, held: TaggedRows | None) -> None:
        """Learn; `held` decides when to stop and what is tuned."""
        raise DataError(f"{type(self).__name__} does not say how it learns")

    def _split(
        self, known: TaggedRows, given: tuple[Any, Any] | None
    ) -> tuple[TaggedRows, TaggedRows | None]:
        """The sentences to learn from, and those that are held out; None where there are none."""
        if given is not None:
            held = TaggedRows(*check_tagged(*given)[:2]) if len(given[0]) else None
            return known, held
        share = float(getattr(self, "validation", 0.0))
        order = np.random.default_rng(self.seed_).permutation(len(known))
        out = int(share * len(known))
        if out and any(known.spans[row] for row in order[out:]):
            return known.take(np.sort(order[out:])), known.take(np.sort(order[:out]))
        if share:
            self.notes_.append("too few sentences for a validation part: nothing is tuned")
        return known, None

    def _write(self, folder: Path) -> dict[str, Any]:
        return super()._write(folder) | {"types": self.types_, "scheme": self.scheme_}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.types_ = [str(of) for of in record["types"]]
        self.scheme_ = record["scheme"]


def known_spans(spans: Sequence[Sequence[Span]], types: Sequence[str]) -> list[list[Span]]:
    """Names of known types; of others nothing can be said."""
    return [[span for span in of if span.type in types] for of in spans]
