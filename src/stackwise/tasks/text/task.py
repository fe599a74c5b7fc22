"""The text task: predict the next token of a corpus.

    task = TextTask.load("corpus/", length=256)
    task.judge(learner, "validation").scores["bits_per_byte"]

What decides is bits per byte, the total of -log2 p(token | tokens before) over the bytes of the
text: unlike perplexity it does not depend on the tokenizer.
"""

import math
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
from torch import Tensor, nn

from stackwise.errors import DataError
from stackwise.knobs import Knob
from stackwise.tasks import Judged, Part
from stackwise.tasks.language.scoring import token_log_probabilities
from stackwise.tasks.language.task import LanguageTask
from stackwise.tasks.language.tokenizers import learned_tokenizer, named_tokenizer
from stackwise.tasks.language.tokens import TokenBatches, mapped_tokens, windows
from stackwise.tasks.table.metrics import Metric
from stackwise.tasks.text.corpus import Corpus, Cut, open_corpus
from stackwise.tasks.text_batches import tokenizer_of


class TextTask(LanguageTask):
    """A corpus whose next tokens are predicted.

    Attributes:
        length: tokens of a row, in training and when it is judged.
        most_judged: rows of a held-out part that are judged, evenly spread over it.
    """

    name: ClassVar[str] = "text"
    baselines: ClassVar[tuple[str, ...]] = ("decoder", "ngram")
    problem: ClassVar[str] = "language modelling"
    metric: ClassVar[Metric] = Metric("bits_per_byte", "min")
    metrics: ClassVar[tuple[str, ...]] = ("bits_per_byte", "perplexity", "loss", "accuracy")

    corpus: Corpus
    length: int
    most_judged: int
    columns: list[dict[str, str]]
    notes: list[str]
    data_hash: str
    options: dict[str, Any]

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        tokenizer: Annotated[
            str | None, Knob("a model folder, packaged model or hub id; else one is learned")
        ] = None,
        vocabulary: Annotated[int, Knob("tokens of a tokenizer that is learned", ge=257)] = 4096,
        length: Annotated[int, Knob("tokens of a row", ge=8)] = 128,
        documents: Annotated[Cut, Knob("what a document is, where not a file or a row")] = "auto",
        field: Annotated[str, Knob("the column of the text, where there are columns")] = "text",
        validation: Annotated[float, Knob("share of the text", gt=0, lt=0.5)] = 0.1,
        test: Annotated[float, Knob("share of the text", gt=0, lt=0.5)] = 0.1,
        most_judged: Annotated[int, Knob("rows of a held-out part that are judged", ge=1)] = 200,
        seed: Annotated[int, Knob("of the split", ge=0)] = 0,
    ) -> "TextTask":
        """Open a corpus and part its documents.

        Args:
            source: a text file, a folder of them, .jsonl, .parquet, a packaged text's name,
                `hf://owner/name`, or a list of texts.

        Raises:
            DataError: it cannot be read, is no text or is too short.
        """
        task = cls()
        task.corpus = open_corpus(source, documents, field)
        task.length, task.most_judged = length, most_judged
        task._tokenizer, task._vocabulary = tokenizer, vocabulary
        task._shares, task._seed = (validation, test), seed
        count, size, digest = task.corpus.counted
        task.columns = []
        task.notes = [f"{count:,} documents, {size:,} bytes"]
        given = {
            "tokenizer": tokenizer, "vocabulary": vocabulary, "length": length,
            "documents": documents, "field": field, "validation": validation, "test": test,
            "most_judged": most_judged, "seed": seed,
        }  # fmt: skip
        task.options = {key: value for key, value in given.items() if value is not None}
        split = f"{validation}-{test}-{seed}-{documents}"
        task.data_hash = _hashed(f"{digest} {split} {tokenizer} {vocabulary} {length}")
        task._text_hash = _hashed(f"{digest} {split}")
        return task

    _tokenizer: str | None
    _vocabulary: int
    _shares: tuple[float, float]
    _seed: int
    _text_hash: str

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that was named, or one learned from the training part."""
        if self._tokenizer is not None:
            return named_tokenizer(self._tokenizer)
        return learned_tokenizer(self.texts("train"), self._vocabulary)

    def texts(self, part: Part) -> Iterator[str]:
        """The documents of a part."""
        return self.corpus.part(part, self._shares, self._seed)

    def tokens(self, part: Part, tokenizer: Any = None) -> np.ndarray:
        """(n,) the tokens of a part, mapped from disk; tokenized when they are first asked for."""
        key = f"{self._text_hash}-{part}"
        return mapped_tokens(self.texts(part), tokenizer or self.tokenizer, key)

    def part(self, part: Part) -> tuple[np.ndarray, None]:
        """The tokens of a part; a text is its own truth."""
        return self.tokens(part), None

    @property
    def size_bytes(self) -> int:
        """Text is mapped from disk and takes no memory to speak of."""
        return 0

    def batches(self, part: Part, *, rows: int = 16, seed: int = 0) -> Iterator[dict[str, Tensor]]:
        """Rows of `length` tokens: `input_ids` and `labels`, (rows, length) int64."""
        for batch in TokenBatches(self.tokens(part), self.length, rows, seed=seed).epoch(0):
            yield batch | {"labels": batch["input_ids"]}

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean of -log p over the next tokens, in nats."""
        ids = batch["input_ids"]
        found: Tensor = model(input_ids=ids, labels=ids, use_cache=False).loss
        return found

    def judge(self, learner: Any, part: Part) -> Judged:
        """Score a fitted learner, or a causal language model, on the rows of a part."""
        tokenizer = getattr(learner, "tokenizer_", None) or tokenizer_of(learner) or self.tokenizer
        rows = windows(self.tokens(part, tokenizer), self.length, self.most_judged)
        began = time.perf_counter()
        found, hits = token_log_probabilities(learner, rows)
        seconds = time.perf_counter() - began
        texts = tokenizer.batch_decode(rows[:, 1:], skip_special_tokens=True)
        sizes = np.array([max(len(text.encode()), 1) for text in texts], dtype=np.float64)
        nats = -found.double().sum(1).numpy()
        samples = pd.DataFrame(
            {"row": np.arange(len(rows)), "value": nats / math.log(2) / sizes, "weight": sizes,
             "nats": nats, "tokens": rows.shape[1] - 1}
        )  # fmt: skip
        loss = float(nats.sum() / (len(rows) * (rows.shape[1] - 1)))
        scores = {
            "bits_per_byte": float(nats.sum() / math.log(2) / sizes.sum()),
            "perplexity": math.exp(min(loss, 700.0)),
            "loss": loss,
            "accuracy": float(hits.double().mean()),
        }
        return Judged(scores, samples, seconds)

    def score(self, truth: Any, prediction: Any, probability: Any = None) -> dict[str, float]:
        """A text is scored by `judge`: a learner's probabilities are not kept."""
        raise DataError("a text is scored by judge(learner, part)")

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        return {
            "name": self.corpus.title,
            "task": self.name,
            "target": "the next token",
            "problem": self.problem,
            "classes": None,
            "shares": None,
            "rows": {part: len(self.tokens(part)) // self.length for part in
                     ("train", "validation", "test")},
            "metric": self.metric.name,
            "options": self.options,
            "notes": self.notes,
            "hash": self.data_hash,
        }  # fmt: skip


def _hashed(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:16]
