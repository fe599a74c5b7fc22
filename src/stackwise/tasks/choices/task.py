"""The task of questions: which choice does a language model take, or what does it write?

    task = ChoicesTask.load("questions.jsonl")
    task.judge(model, "test").scores["accuracy"]

A question with choices is read as

    Question: ...        and the answer is the letter whose token is the likeliest after it; no
    A. ...               text is generated and none is parsed. One without choices is answered by
    B. ...               the likeliest tokens up to the end of the line, and must match exactly
    Answer:              but for case, spaces and a last full stop.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stackwise.catalog import Knob, task
from stackwise.errors import DataError
from stackwise.learning.metrics import Metric
from stackwise.protocols import Judged, Part
from stackwise.tasks.choices.answers import Rule
from stackwise.tasks.choices.asking import (
    Template,
    letter_logits,
    letter_tokens,
    padded,
    prompt_of,
    write_said,
    written_answer,
)
from stackwise.tasks.choices.marks import recognises
from stackwise.tasks.choices.options import LETTERS
from stackwise.tasks.choices.source import Question, read_questions
from stackwise.tasks.language.reading import check_causal, context_of, tokenizer_for
from stackwise.tasks.language.task import PartedTask
from stackwise.training.batches import ListBatches


@task(
    title="Questions with choices, or with short answers",
    recognises=recognises,
    sample="questions.jsonl",
)
class ChoicesTask(PartedTask):
    """Questions, parted at random.

    Attributes:
        questions: all of them, those left out included.
    """

    name: ClassVar[str] = "choices"
    target: ClassVar[str] = "the answer"
    problem: ClassVar[str] = "question answering"
    metric: ClassVar[Metric] = Metric("accuracy", "max")

    questions: list[Question]

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        question: Annotated[str, Knob("the field of the question")] = "question",
        choices: Annotated[
            str, Knob("the field of the choices; else a column each: A, B, ..., choice1, ...")
        ] = "choices",
        answer: Annotated[str, Knob("the field of the right answer")] = "answer",
        answer_rule: Annotated[
            Rule | None, Knob("how answers name a choice; else the set's own answers say it")
        ] = None,
        template: Annotated[
            Template, Knob("plain text, or the tokenizer's chat template")
        ] = "plain",
        validation: Annotated[float, Knob("share of the questions", gt=0, lt=0.5)] = 0.2,
        test: Annotated[float, Knob("share of the questions", gt=0, lt=0.9)] = 0.4,
        max_length: Annotated[
            int | None, Knob("most tokens of a question; else the model's context", ge=8)
        ] = None,
        split_seed: Annotated[int, Knob("of the split", ge=0)] = 0,
    ) -> "ChoicesTask":
        """Read questions and part them.

        Args:
            source: a list, a frame, a file of records (.jsonl, .json, .csv, .parquet and others)
                or a folder that `datasets` saved.

        Raises:
            DataError: a question cannot be used; the sentence says which and why.
        """
        task = cls()
        task.questions = read_questions(source, question, choices, answer, rule=answer_rule)
        count = len(task.questions)
        task._part(count, validation, test, split_seed, "questions")
        task.title, task.template, task.max_length = f"{count} questions", template, max_length
        given = {
            "question": question, "choices": choices, "answer": answer,
            "answer_rule": answer_rule, "template": template,
            "validation": validation, "test": test, "max_length": max_length,
            "split_seed": split_seed,
        }  # fmt: skip
        task.options = {key: value for key, value in given.items() if value is not None}
        written = sum(not one.choices for one in task.questions)
        task.notes = [f"{count:,} questions, {count - written:,} of them with choices"]
        text = json.dumps([[q.text, q.choices, q.answer] for q in task.questions])
        task.data_hash = hashlib.sha256((text + json.dumps(task.options)).encode()).hexdigest()[:16]
        return task

    template: Template
    max_length: int | None

    def part(self, part: Part) -> tuple[list[Question], list[int | str]]:
        """The questions of a part and their answers."""
        found = [self.questions[row] for row in self.rows_of(part)]
        return found, [one.answer for one in found]

    @property
    def size_bytes(self) -> int:
        """Bytes of the text."""
        return sum(len(one.text) + sum(map(len, one.choices)) for one in self.questions)

    def prompt(self, question: Question, tokenizer: Any) -> str:
        """What the model reads."""
        return prompt_of(question, tokenizer, self.template)

    def encode(
        self, questions: Sequence[Question], tokenizer: Any, context: int | None
    ) -> tuple[list[Question], list[list[int]]]:
        """The questions that fit and their tokens. Those that do not are counted in `notes`."""
        most = self.max_length or context
        kept, tokens = [], []
        late = []
        for one in questions:
            ids = tokenizer(
                self.prompt(one, tokenizer), add_special_tokens=self.template == "plain"
            )
            if most is not None and len(ids["input_ids"]) > most:
                late.append(one.row)
                continue
            kept.append(one)
            tokens.append(ids["input_ids"])
        if late:
            named = ", ".join(str(row + 1) for row in late[:5])
            note = f"{len(late)} questions are longer than {most} tokens and left out: {named}"
            if note not in self.notes:
                self.notes.append(note)
        if not kept:
            raise DataError(f"every question is longer than the {most} tokens that the model takes")
        return kept, tokens

    def letters(self, tokenizer: Any, count: int) -> list[int]:
        """The token of each letter, as it follows the prompt.

        Raises:
            DataError: the tokenizer writes letters with several tokens, or two alike.
        """
        return letter_tokens(tokenizer, count, self.template)

    def batches(
        self, part: Part, *, model: Any = None, batch_size: int | None = None, seed: int = 0
    ) -> ListBatches:
        """Questions with choices, as many choices a batch: `input_ids` (rows, longest) int64 read
        with the model's own tokenizer, `last` (rows,) the place before the answer, `letters`
        (rows, choices) the tokens of the letters and `answer` (rows,) which is right.

        Raises:
            DataError: no question has choices.
        """
        check_causal(getattr(model, "model_", model))
        tokenizer = tokenizer_for(model, model, "questions")
        asked = [one for one in self.part(part)[0] if one.choices]
        if not asked:
            raise DataError("a loss needs questions with choices")
        kept, tokens = self.encode(asked, tokenizer, context_of(model))
        by_count: dict[int, list[int]] = {}
        for place, one in enumerate(kept):
            by_count.setdefault(len(one.choices), []).append(place)
        size, made = batch_size or 8, []
        for count, places in sorted(by_count.items()):
            letters = torch.tensor(self.letters(tokenizer, count))
            for first in range(0, len(places), size):
                group = places[first : first + size]
                ids, last = padded([tokens[i] for i in group])
                answer = torch.tensor([int(kept[i].answer) for i in group])
                made.append({"input_ids": ids, "last": last, "answer": answer,
                             "letters": letters.expand(len(group), -1)})  # fmt: skip
        return ListBatches(made, seed=seed)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy of the right letter among the letters."""
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits
        rows = torch.arange(len(logits), device=logits.device)
        at_end = logits[rows, batch["last"]].float()
        return nn.functional.cross_entropy(at_end.gather(1, batch["letters"]), batch["answer"])

    def judge(self, learner: Any, part: Part) -> Judged:
        """Ask a model, or a fitted learner that holds one, the questions of a part."""
        model = getattr(learner, "model_", learner)
        tokenizer = tokenizer_for(model, learner, "questions")
        questions, tokens = self.encode(self.part(part)[0], tokenizer, context_of(model))
        began = time.perf_counter()
        samples = []
        with torch.no_grad():
            chosen = [i for i, one in enumerate(questions) if one.choices]
            logits = {}
            if chosen:
                found = letter_logits(model, [tokens[i] for i in chosen])
                logits = dict(zip(chosen, found, strict=True))
            for i, one in enumerate(questions):
                if one.choices:
                    row = logits[i][self.letters(tokenizer, len(one.choices))].float()
                    place = int(row.argmax())
                    said, right = LETTERS[place], place == one.answer
                    loss = float(-row.log_softmax(-1)[int(one.answer)])
                else:
                    said = written_answer(model, tokenizer, tokens[i])
                    right, loss = same_answer(said, str(one.answer)), float("nan")
                samples.append({"row": one.row, "value": float(right), "weight": 1.0,
                                "said": said, "log_loss": loss})  # fmt: skip
        seconds = time.perf_counter() - began
        table = pd.DataFrame(samples)
        scores = {"accuracy": float(table["value"].mean())}
        if chosen:
            scores["log_loss"] = float(table["log_loss"].mean())
            scores |= self._without_a_model(questions)
        return Judged(scores, table, seconds)

    def _without_a_model(self, questions: Sequence[Question]) -> dict[str, float]:
        """What the commonest letter of the training part gets right, and what chance does."""
        trained = [one.answer for one in self.part("train")[0] if one.choices]
        held = [one for one in questions if one.choices]
        common = max(set(trained), key=trained.count) if trained else 0
        return {
            "majority": float(np.mean([one.answer == common for one in held])),
            "chance": float(np.mean([1 / len(one.choices) for one in held])),
        }

    @staticmethod
    def write_predictions(
        path: Path | str,
        learner: Any,
        source: Any,
        *,
        question: Annotated[str, Knob("the field of the question")] = "question",
        choices: Annotated[
            str, Knob("the field of the choices; else a column each: A, B, ..., choice1, ...")
        ] = "choices",
        answer: Annotated[str, Knob("the field of the right answer, which is not read")] = "answer",
        template: Annotated[
            Template, Knob("plain text, or the tokenizer's chat template")
        ] = "plain",
    ) -> int:
        """Ask the questions of a source; a line of JSON each: `question`, `said`, and `choice`."""
        asked = read_questions(source, question, choices, answer, answered=False)
        return write_said(path, learner, asked, template)

    @classmethod
    def small(cls) -> "ChoicesTask":
        """20 questions of two choices."""
        words = ("red", "green", "blue", "small", "large")
        questions = [
            {"question": f"which is {one}?", "choices": sorted([one, two]), "answer": one}
            for one in words
            for two in words
            if one != two
        ]
        return cls.load(questions)


def same_answer(said: str, right: str) -> bool:
    """Equal but for case, outer spaces and a last full stop."""
    one, other = (text.strip().rstrip(".").strip().casefold() for text in (said, right))
    return one == other
