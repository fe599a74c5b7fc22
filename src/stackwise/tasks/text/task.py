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
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
from torch import Tensor, nn

from stackwise.catalog import Knob, task
from stackwise.learning.metrics import Metric
from stackwise.protocols import Judged, Part
from stackwise.tasks.language.reading import check_causal, context_of, tokenizer_for, tokenizer_of
from stackwise.tasks.language.scoring import token_log_probabilities
from stackwise.tasks.language.task import LanguageTask
from stackwise.tasks.language.tokenizers import learned_tokenizer, named_tokenizer
from stackwise.tasks.language.tokens import TokenBatches, mapped_tokens, windows
from stackwise.tasks.language.writing import write_completions
from stackwise.tasks.text.corpus import Corpus, Cut, open_corpus
from stackwise.tasks.text.marks import recognises


@task(title="A corpus whose next tokens are predicted", recognises=recognises, sample="corpus/")
class TextTask(LanguageTask):
    """A corpus whose next tokens are predicted.

    Attributes:
        length: tokens of a row, in training and when it is judged.
        most_judged: rows of a held-out part that are judged, evenly spread over it.
    """

    name: ClassVar[str] = "text"
    target: ClassVar[str] = "the next token"
    problem: ClassVar[str] = "language modelling"
    metric: ClassVar[Metric] = Metric("bits_per_byte", "min")

    corpus: Corpus
    length: int
    most_judged: int

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
        split_seed: Annotated[int, Knob("of the split", ge=0)] = 0,
    ) -> "TextTask":
        """Open a corpus and part its documents.

        Args:
            source: a text file, a folder of them, a file of records (.jsonl, .json, .csv,
                .parquet), a packaged text's name, `hf://owner/name`, or a list of texts.

        Raises:
            DataError: it cannot be read, is no text or is too short.
        """
        task = cls()
        task.corpus = open_corpus(source, documents, field)
        task.title = task.corpus.title
        task.length, task.most_judged = length, most_judged
        task._tokenizer, task._vocabulary = tokenizer, vocabulary
        task._shares, task._seed = (validation, test), split_seed
        count, size, digest = task.corpus.counted
        task.notes = [f"{count:,} documents, {size:,} bytes"]
        given = {
            "tokenizer": tokenizer, "vocabulary": vocabulary, "length": length,
            "documents": documents, "field": field, "validation": validation, "test": test,
            "most_judged": most_judged, "split_seed": split_seed,
        }  # fmt: skip
        task.options = {key: value for key, value in given.items() if value is not None}
        split = f"{validation}-{test}-{split_seed}-{documents}"
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

    def batches(
        self, part: Part, *, model: Any = None, batch_size: int | None = None, seed: int = 0
    ) -> TokenBatches:
        """Rows of `length` tokens: `input_ids` (rows, length) int64, read with the model's own
        tokenizer where it has one beside it.
        """
        tokenizer = self._tokenizer_for(model)
        length = self._row_length(model, tokenizer)
        return TokenBatches(self.tokens(part, tokenizer), length, batch_size or 8, seed=seed)

    def _row_length(self, model: Any, tokenizer: Any) -> int:
        """Tokens of a row: `length`, or less where the model takes no more or the smallest part has
        no more. A note says so.
        """
        parts: tuple[Part, ...] = ("train", "validation", "test")
        shortest = min(len(self.tokens(part, tokenizer)) for part in parts)
        length = min(self.length, context_of(model) or self.length, max(shortest, 2))
        note = f"rows are of {length} tokens: the model, or a part of the text, takes no more"
        if length < self.length and note not in self.notes:
            self.notes.append(note)
        return length

    def _tokenizer_for(self, model: Any) -> Any:
        """A learner's tokenizer, the one beside a model of transformers, or for any other module
        the task's own.
        """
        if hasattr(model, "tokenizer_"):
            return model.tokenizer_
        check_causal(model)
        pretrained = hasattr(model, "config")
        return tokenizer_for(model, None, "text") if pretrained else self.tokenizer

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean of -log p over the next tokens, in nats."""
        ids = batch["input_ids"]
        found: Tensor = model(input_ids=ids, labels=ids, use_cache=False).loss
        return found

    def judge(self, learner: Any, part: Part) -> Judged:
        """Score a fitted learner, or a causal language model, on the rows of a part."""
        tokenizer = getattr(learner, "tokenizer_", None) or tokenizer_of(learner) or self.tokenizer
        length = self._row_length(learner, tokenizer)
        rows = windows(self.tokens(part, tokenizer), length, self.most_judged)
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

    @staticmethod
    def write_predictions(
        path: Path | str,
        learner: Any,
        source: Any,
        *,
        field: Annotated[str | None, Knob("the field of the prompt; else prompt, or text")] = None,
    ) -> int:
        """Go on with each prompt of a source; see `stackwise.tasks.language.writing`.

        The prompts are the lines of a text file, the records of a file of such, or the documents
        of whatever else `load` reads.
        """
        if not isinstance(source, (list, tuple)) and not Path(source).is_file():
            source = list(open_corpus(source, field=field or "text").read())
        return write_completions(path, learner, source, field=field)

    def rows(self) -> dict[str, int]:
        """Rows of each part."""
        parts: tuple[Part, ...] = ("train", "validation", "test")
        return {part: len(self.tokens(part)) // self.length for part in parts}

    @classmethod
    def small(cls) -> "TextTask":
        """25 sentences of a few words."""
        words = ("red", "green", "blue", "small", "large")
        lines = [
            f"the {one} box is beside the {two} one, said the {two} fox"
            for one in words
            for two in words
        ]
        return cls.load(lines, length=16, vocabulary=300)


def _hashed(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:16]
