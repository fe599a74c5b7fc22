"""The tags task: find the names in a text.

task = TagsTask.load("train.conll")
X, y = task.part("train")                     lists of words, and of their tags
task.judge(learner, "validation").scores["f1"]
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np

from stackwise.catalog import Knob, task
from stackwise.errors import DataError, nearest
from stackwise.files import plain
from stackwise.findings import Findings
from stackwise.learning.metric import Metric
from stackwise.protocols import Judged, Part, RunLike
from stackwise.tasks.described import described
from stackwise.tasks.table.loading import title_of
from stackwise.tasks.tags import showing
from stackwise.tasks.tags.loading import Choices, load_parts
from stackwise.tasks.tags.marks import recognises
from stackwise.tasks.tags.reading.source import How
from stackwise.tasks.tags.schemes import Scheme, Span, spans_of, tags_of
from stackwise.tasks.tags.scoring import counted, resampled_f1, scores_of
from stackwise.tasks.tags.sentences import Sentence, surface
from stackwise.tasks.tags.small import small_sentences
from stackwise.tasks.tags.writing import write_predictions
from stackwise.training.session import cost_clock


@task(title="Texts, the names in them to find", recognises=recognises, sample="train.conll")
class TagsTask:
    """Sentences whose words are tagged, parted into training, validation and test.

    Attributes:
        sentences: all of them. types: of the names of the training part, sorted.
        scheme: of the source's tags: BIO, IOBES or 01.
    """

    name: ClassVar[str] = "tags"
    ending: ClassVar[str] = "jsonl"
    target: ClassVar[str] = "names"
    problem: ClassVar[str] = "tagging"
    metric: ClassVar[Metric] = Metric("f1", "max")
    write_predictions = staticmethod(write_predictions)

    title: str
    notes: list[str]
    data_hash: str
    options: dict[str, Any]
    sentences: list[Sentence]
    types: list[str]
    scheme: Scheme
    _rows: dict[Part, np.ndarray]

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        field: Annotated[
            str | None, Knob("the field, or column, of the words or the text; else a usual one")
        ] = None,
        tags: Annotated[
            str | None, Knob("the field, or column, of the tags or the names' places")
        ] = None,
        repair: Annotated[
            bool, Knob("read tags that cannot follow each other, such as I- after O, as names")
        ] = False,
        names: Annotated[
            str | Any | None, Knob("a file of names, a line each, by which plain texts are tagged")
        ] = None,
        label: Annotated[str, Knob("the type of names that come from --names")] = "name",
        group: Annotated[str | None, Knob("rows with equal values stay in one part")] = None,
        unseen: Annotated[
            float | None,
            Knob("share of the names that only the test part has, with all their sentences", gt=0,
                 lt=0.9),
        ] = None,
        validation: Annotated[float | str | Any, Knob("share of the rows, or a source")] = 0.2,
        test: Annotated[float | str | Any, Knob("share of the rows, or a source")] = 0.2,
        max_rows: Annotated[int | None, Knob("train on at most this many rows")] = None,
        split_seed: Annotated[int, Knob("of the split", ge=0)] = 0,
    ) -> "TagsTask":  # fmt: skip
        """Read tagged texts and part them.

        Args:
            source: columns (.conll, .bio, .tsv); JSON lines, JSON or parquet with words and tags,
                or with a text and the places of its names; a folder of `datasets`; a named set
                (`stackwise data`); plain texts with `names`; in Python a list of records, a frame
                with a row a token, or (sentences, tags).
            group: sentences with equal values of this field stay in one part; documents of a file
                of columns do so anyway.
            unseen: a share of the names is kept for the test part; validation is parted alike.
            validation: share of all sentences, or a source of its own. test: the same.

        Raises:
            DataError: one sentence about what cannot be used, and what would be right.
        """
        how = How(field=field, tags=tags, repair=repair, names=names, label=label)
        choices = Choices(
            target=tags, group=group, validation=validation, test=test, max_rows=max_rows,
            split_seed=split_seed, how=how, unseen=unseen,
        )  # fmt: skip
        loaded = load_parts(source, choices)
        made = cls()
        made.title = "sentences" if isinstance(source, tuple) else title_of(source)
        made.sentences, made._rows, made.notes = loaded.sentences, loaded.rows, loaded.notes
        made.types, made.scheme, made.options = loaded.types, loaded.scheme, choices.as_options()
        made.data_hash = made._fingerprint()
        return made

    def part(self, part: Part) -> tuple[list[list[str]], list[list[str]]]:
        """The words and the tags of a part, tagged as the source is."""
        X, spans = self.names_of(part)
        return X, [tags_of(of, len(row), self.scheme) for row, of in zip(X, spans, strict=True)]

    def names_of(self, part: Part) -> tuple[list[list[str]], list[list[Span]]]:
        """The words of a part, and the names among them."""
        held = [self.sentences[row] for row in self.rows_of(part)]
        return [one.tokens for one in held], [one.spans or [] for one in held]

    def rows_of(self, part: Part) -> np.ndarray:
        """The numbers of a part's sentences."""
        if part not in self._rows:
            raise DataError(f"there is no part {part!r}.{nearest(part, self._rows)}")
        return self._rows[part]

    @property
    def size_bytes(self) -> int:
        """Bytes that the sentences take in memory, about."""
        return sum(len(one.text) + 80 * len(one.tokens) for one in self.sentences)

    @cached_property
    def seen(self) -> frozenset[str]:
        """The names of the training part, in lower case."""
        X, spans = self.names_of("train")
        pairs = zip(X, spans, strict=True)
        return frozenset(surface(row, span) for row, of in pairs for span in of)

    def fit(self, learner: Any) -> Any:
        """Fit a learner on the training part; the validation part decides when to stop, and from
        which probability on a word counts as part of a name.
        """
        return learner.fit(*self.part("train"), validation=self.part("validation"))

    def judge(self, learner: Any, part: Part) -> Judged:
        """Score a fitted learner on a part; of test sentences what it found is kept too."""
        X, truth = self.names_of(part)
        began = cost_clock()
        found = learner.predict(X)
        seconds = cost_clock() - began
        scheme = learner.scheme_
        said = [
            spans_of(tags, scheme, f"answer {n}", repair=True) for n, tags in enumerate(found, 1)
        ]
        samples = counted(X, truth, said, self.seen)
        samples.insert(0, "row", self.rows_of(part))
        one = None
        if part == "test":
            held = [self.sentences[row] for row in self.rows_of(part)]
            samples = showing.with_names(samples, held, truth, said)
            began = cost_clock()
            learner.predict(X[:1])
            one = cost_clock() - began
        return Judged(scores_of(samples), samples, seconds, one)

    def resampled(self, run: RunLike) -> tuple[int, Callable[[np.ndarray], float]]:
        """The test sentences of a finished run, and F1 over the names of any of them."""
        table = run.predictions
        return len(table), resampled_f1(table)

    @classmethod
    def shows(cls, runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
        """Names that were missed and invented; see `stackwise.tasks.tags.showing`."""
        return showing.shows(runs, data)

    @classmethod
    def small(cls) -> "TagsTask":
        """60 sentences with names of two types; see `small_sentences`."""
        return cls.load(small_sentences())

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        truths = {part: self.names_of(part)[1] for part in self._rows}
        return described(self, {part: len(rows) for part, rows in self._rows.items()}) | {
            "types": self.types,
            "names": {part: sum(map(len, spans)) for part, spans in truths.items()},
            "scheme": self.scheme,
        }

    def _fingerprint(self) -> str:
        """Of words, names, parts and options; 16 digits."""
        digest = hashlib.sha256(json.dumps(plain(self.options), sort_keys=True).encode())
        for part in sorted(self._rows):
            X, y = self.names_of(part)
            digest.update(json.dumps([part, X, y], ensure_ascii=False).encode())
        return digest.hexdigest()[:16]
