"""The labels task: predict the class of a text.

task = LabelsTask.load("reviews.jsonl")
X, y = task.part("train")                     X holds texts
task.score(y, learner.predict(X))
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.catalog import Knob, task
from stackwise.findings import Findings
from stackwise.learning.metrics import Metric
from stackwise.learning.row_blocks import output_of
from stackwise.protocols import Judged, Part, RunLike
from stackwise.tasks.labelled.samples import SampleTask
from stackwise.tasks.labelled.task import class_codes
from stackwise.tasks.labels import showing
from stackwise.tasks.labels.estimators.tokens import TokenBatches, Tokens, pad_token, tokenized
from stackwise.tasks.labels.heads import check_head, with_head
from stackwise.tasks.labels.loading import Choices, load_parts
from stackwise.tasks.labels.marks import recognises
from stackwise.tasks.labels.modules import ModuleOnTexts
from stackwise.tasks.labels.small import small_texts
from stackwise.tasks.labels.texts import Texts
from stackwise.tasks.labels.writing import answer_rows, write_predictions
from stackwise.tasks.language.reading import context_of, tokenizer_for
from stackwise.tasks.table.loading import title_of

USUAL_LENGTH = 256
"""Tokens of a text that a module reads where nobody says how many."""


@task(title="Texts, a class of each to predict", recognises=recognises, sample="reviews.jsonl")
class LabelsTask(SampleTask):
    """Texts with a class each, parted into training, validation and test.

    Attributes:
        max_length: tokens of a text that a bare module reads at most; None for what suits it.
    """

    name: ClassVar[str] = "labels"
    ending: ClassVar[str] = "csv"
    write_predictions = staticmethod(write_predictions)
    answer_rows = staticmethod(answer_rows)

    max_length: int | None

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        field: Annotated[
            str | None, Knob("the field of the text; else text, sentence, review, ...")
        ] = None,
        target: Annotated[
            str | None, Knob("the field of the label; else label, class, ...", role=True)
        ] = None,
        group: Annotated[str | None, Knob("rows with equal values stay in one part")] = None,
        validation: Annotated[float | str | Any, Knob("share of the rows, or a source")] = 0.2,
        test: Annotated[float | str | Any, Knob("share of the rows, or a source")] = 0.2,
        metric: Annotated[
            str | Metric | None, Knob("what better means: accuracy, log_loss, roc_auc, ...")
        ] = None,
        max_rows: Annotated[int | None, Knob("train on at most this many rows")] = None,
        max_length: Annotated[
            int | None, Knob("most tokens of a text that a model reads; else 256", ge=8)
        ] = None,
        split_seed: Annotated[int, Knob("of the split", ge=0)] = 0,
    ) -> "LabelsTask":
        """Read labelled texts and part them.

        Args:
            source: JSON lines, JSON, csv, parquet or arrow with a field of text and one of labels;
                a folder with a folder a class, under train, validation and test or not; a folder
                of `datasets`; `hf://owner/name`; a named set (`stackwise data`); in Python a list
                of records, a frame, or (texts, labels).
            field, target: the fields of text and label, where they have no usual name.
            group: texts with equal values of this field stay in one part.
            validation: share of all texts, or a source of its own.
            test: the same.
            metric: the score that decides; accuracy by default.
            max_rows: train on at most this many texts, drawn at random.
            split_seed: of the split. Each part has its share of each class.

        Raises:
            DataError: one sentence about what cannot be used, and what would be right.
        """
        choices = Choices(
            target=target, group=group, validation=validation, test=test, max_rows=max_rows,
            split_seed=split_seed, field=field, max_length=max_length,
        )  # fmt: skip
        loaded = load_parts(source, choices)
        title = "texts" if isinstance(source, tuple) else title_of(source)
        made = cls.of_parts(
            loaded, title=title, target=target, metric=metric, options=choices.as_options
        )
        made.max_length = max_length
        return made

    def headed(self, model: Any) -> Any:
        """An encoder or a decoder of transformers with a head of the task's classes: itself where
        it has one; else its own weights under a new head, which the same model always gets alike.

        Raises:
            ModelError: no such head can be put on it.
        """
        assert self.classes is not None
        pad = pad_token(tokenizer_for(model, model, "texts"))
        return with_head(model, self.classes.tolist(), pad=pad)

    def batches(
        self, part: Part, *, model: Any = None, batch_size: int | None = None, seed: int = 0
    ) -> TokenBatches:
        """The texts of a part, read with the model's own tokenizer: `input_ids` and
        `attention_mask` (B, T) int64, and `target` (B,) class numbers.
        """
        texts, y = self.part(part)
        assert self.classes is not None
        tokens = self._tokens(model, texts)
        longest = max((len(row) for row in tokens.rows), default=1)
        tensors = tokens.padded(range(len(tokens)), longest)
        tensors["target"] = torch.from_numpy(class_codes(y, self.classes))
        return TokenBatches(tensors, batch_size or 16, seed=seed)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy; the model maps tokens to (B, C) logits, or has these as `logits`.

        Raises:
            ModelError: it has no head of the task's classes; see `headed`.
        """
        assert self.classes is not None
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        output = output_of(model, inputs)
        check_head(output, len(self.classes), model)
        return functional.cross_entropy(output.float(), batch["target"])

    def judge(self, learner: Any, part: Part) -> Judged:
        """Score a fitted learner, or a module with a head of the classes, on a part; of test texts
        the surest mistakes are kept too.
        """
        if isinstance(learner, nn.Module):
            assert self.classes is not None
            module = learner
            learner = ModuleOnTexts(module, self.classes, lambda texts: self._tokens(module, texts))
        found = super().judge(learner, part)
        if part != "test":
            return found
        return replace(found, samples=showing.with_texts(found.samples, self.part("test")[0]))

    @classmethod
    def shows(cls, runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
        """Which classes are taken for which; see `stackwise.tasks.labels.showing`."""
        return showing.shows(runs, data)

    @classmethod
    def small(cls, problem: str | None = None) -> "LabelsTask":
        """72 sentences of three subjects; see `small_texts`."""
        return cls.load(small_texts())

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        lengths = [len(text) for text in self._parts["train"][0].values]
        return super().describe() | {"letters": int(np.mean(lengths)) if lengths else 0}

    def _tokens(self, model: Any, texts: Texts) -> Tokens:
        """Texts as a fitted learner or a bare module reads them."""
        if hasattr(model, "tokens"):
            return cast(Tokens, model.tokens(texts))
        tokenizer = tokenizer_for(model, model, "texts")
        most = min(self.max_length or USUAL_LENGTH, context_of(model) or USUAL_LENGTH)
        return tokenized(texts.values, tokenizer, most)
