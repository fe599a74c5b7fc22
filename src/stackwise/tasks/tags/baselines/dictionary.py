"""The baseline that every tagger must beat: names of the training sentences, looked up."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from sklearn.utils.validation import check_is_fitted

from stackwise.catalog import Knob, baseline
from stackwise.tasks.tags.estimators.coding import Scored
from stackwise.tasks.tags.estimators.estimator import TagEstimator, TaggedRows
from stackwise.tasks.tags.names import mentions, name_book
from stackwise.tasks.tags.sentences import check_sentences
from stackwise.tasks.tags.words import key_of


@baseline("dictionary", title="Names of training, looked up")
class DictionaryTagger(TagEstimator):
    """Find the names that training sentences had, whatever their case, the longest first.

    A name of several types has its commonest one. Its score is the share of its mentions in
    training that were tagged. New names are never found. Fitted: `names_`.
    """

    def __init__(
        self,
        *,
        share: Annotated[
            float, Knob("least share of a name's training mentions that are tagged", ge=0, le=1)
        ] = 0.5,
    ) -> None:
        """Names looked up."""

    names_: dict[tuple[str, ...], tuple[str, float]]

    def _learn(self, train: TaggedRows, held: TaggedRows | None) -> None:
        types: dict[tuple[str, ...], Counter[str]] = {}
        for words, spans in zip(train.sentences, train.spans, strict=True):
            for start, end, type_ in spans:
                name = tuple(map(key_of, words[start:end]))
                types.setdefault(name, Counter())[type_] += 1
        tagged = {name: of.most_common(1)[0] for name, of in types.items()}
        book = name_book({name: type_ for name, (type_, _) in tagged.items()})
        met: Counter[tuple[str, ...]] = Counter()
        for words in train.sentences:
            for start, end, _ in mentions(words, book):
                met[tuple(map(key_of, words[start:end]))] += 1
        self.names_ = {}
        for name, (type_, count) in sorted(tagged.items()):
            share = count / max(met[name], count)
            if share >= self.share:
                self.names_[name] = (type_, share)

    def scored_spans(self, X: Any) -> list[list[Scored]]:
        """The names in each of n lists of words."""
        check_is_fitted(self, self.fitted)
        book = name_book({name: type_ for name, (type_, _) in self.names_.items()})
        found = []
        for words in check_sentences(X):
            keys = list(map(key_of, words))
            found.append([
                (start, end, type_, self.names_[tuple(keys[start:end])][1])
                for start, end, type_ in mentions(words, book)
            ])  # fmt: skip
        return found

    def _write(self, folder: Path) -> dict[str, Any]:
        names = [[list(name), type_, share] for name, (type_, share) in self.names_.items()]
        return super()._write(folder) | {"names": names}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.names_ = {
            tuple(map(str, name)): (str(type_), float(share))
            for name, type_, share in record["names"]
        }
