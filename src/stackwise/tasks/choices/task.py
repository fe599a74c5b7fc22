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
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stackwise.errors import DataError
from stackwise.knobs import Knob
from stackwise.tasks import Judged, Part
from stackwise.tasks.choices.source import LETTERS, Question, read_questions
from stackwise.tasks.language.reading import context_of, device_of, tokenizer_for
from stackwise.tasks.language.task import LanguageTask
from stackwise.tasks.table.metrics import Metric

Template = Literal["plain", "chat"]
WRITTEN = 16
"""Tokens of an answer that is written."""


class ChoicesTask(LanguageTask):
    """Questions, parted at random.

    Attributes:
        questions: all of them, those left out included. columns: none.
    """

    name: ClassVar[str] = "choices"
    baselines: ClassVar[tuple[str, ...]] = ()
    problem: ClassVar[str] = "question answering"
    metric: ClassVar[Metric] = Metric("accuracy", "max")
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "log_loss", "majority", "chance")

    questions: list[Question]
    columns: list[dict[str, str]]
    notes: list[str]
    data_hash: str
    options: dict[str, Any]

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        question: Annotated[str, Knob("the field of the question")] = "question",
        choices: Annotated[
            str, Knob("the field of the choices; else columns A, B, ...")
        ] = "choices",
        answer: Annotated[str, Knob("the field of the right answer")] = "answer",
        template: Annotated[
            Template, Knob("plain text, or the tokenizer's chat template")
        ] = "plain",
        validation: Annotated[float, Knob("share of the questions", gt=0, lt=0.5)] = 0.2,
        test: Annotated[float, Knob("share of the questions", gt=0, lt=0.9)] = 0.4,
        max_length: Annotated[
            int | None, Knob("most tokens of a question; else the model's context", ge=8)
        ] = None,
        seed: Annotated[int, Knob("of the split", ge=0)] = 0,
    ) -> "ChoicesTask":
        """Read questions and part them.

        Raises:
            DataError: a question cannot be used; the sentence says which and why.
        """
        task = cls()
        task.questions = read_questions(source, question, choices, answer)
        count = len(task.questions)
        order = np.random.default_rng(seed).permutation(count)
        held = max(1, round(validation * count)), max(1, round(test * count))
        if sum(held) >= count:
            raise DataError(f"{count} questions are too few to part; give at least 5")
        task._rows = {
            "test": np.sort(order[: held[1]]),
            "validation": np.sort(order[held[1] : sum(held)]),
            "train": np.sort(order[sum(held) :]),
        }
        task.template, task.max_length, task.columns = template, max_length, []
        given = {
            "question": question, "choices": choices, "answer": answer, "template": template,
            "validation": validation, "test": test, "max_length": max_length, "seed": seed,
        }  # fmt: skip
        task.options = {key: value for key, value in given.items() if value is not None}
        written = sum(not one.choices for one in task.questions)
        task.notes = [f"{count:,} questions, {count - written:,} of them with choices"]
        text = json.dumps([[q.text, q.choices, q.answer] for q in task.questions])
        task.data_hash = hashlib.sha256((text + json.dumps(task.options)).encode()).hexdigest()[:16]
        return task

    _rows: dict[str, np.ndarray]
    template: Template
    max_length: int | None

    def part(self, part: Part) -> tuple[list[Question], list[int | str]]:
        """The questions of a part and their answers."""
        if part not in self._rows:
            raise DataError(f"there is no part {part!r}; there is train, validation and test")
        found = [self.questions[row] for row in self._rows[part]]
        return found, [one.answer for one in found]

    @property
    def size_bytes(self) -> int:
        """Bytes of the text."""
        return sum(len(one.text) + sum(map(len, one.choices)) for one in self.questions)

    def prompt(self, question: Question, tokenizer: Any) -> str:
        """What the model reads."""
        lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, question.choices)]
        if self.template == "chat":
            asked = "\n".join([question.text, *lines])
            if lines:
                asked += "\nAnswer with the letter alone."
            chat = [{"role": "user", "content": asked}]
            return str(
                tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            )
        return "\n".join([f"Question: {question.text}", *lines, "Answer:"])

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
        before = "" if self.template == "chat" else " "
        found = []
        for letter in LETTERS[:count]:
            ids = tokenizer(before + letter, add_special_tokens=False)["input_ids"]
            if len(ids) != 1:  # a letter and its space apart: the space is the same for all
                ids = tokenizer(letter, add_special_tokens=False)["input_ids"]
            if len(ids) != 1:
                raise DataError(
                    f"the tokenizer writes the letter {letter} as {len(ids)} tokens; answers "
                    "cannot be read off one position"
                )
            found.append(ids[0])
        return found

    def batches(self, part: Part, *, rows: int = 8) -> Iterator[dict[str, Any]]:
        """The questions as they are, `rows` at a time: a model's tokenizer makes tokens of them."""
        questions, _ = self.part(part)
        for start in range(0, len(questions), rows):
            yield {"questions": questions[start : start + rows]}

    def loss(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Cross entropy of the right letter among the letters, over questions with choices."""
        tokenizer = tokenizer_for(model, None, "questions")
        questions = [one for one in batch["questions"] if one.choices]
        if not questions:
            raise DataError("a loss needs questions with choices")
        kept, tokens = self.encode(questions, tokenizer, context_of(model))
        found = letter_logits(model, tokens)
        losses = []
        for one, row in zip(kept, found, strict=True):
            letters = row[self.letters(tokenizer, len(one.choices))]
            losses.append(torch.nn.functional.cross_entropy(letters, torch.tensor(one.answer)))
        return torch.stack(losses).mean()

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

    def score(self, truth: Any, prediction: Any, probability: Any = None) -> dict[str, float]:
        """Accuracy of answers, by number or text."""
        return {
            "accuracy": float(np.mean([a == b for a, b in zip(truth, prediction, strict=True)]))
        }

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        return {
            "name": f"{len(self.questions)} questions",
            "task": self.name,
            "target": "the answer",
            "problem": self.problem,
            "classes": None,
            "shares": None,
            "rows": {part: len(rows) for part, rows in self._rows.items()},
            "metric": self.metric.name,
            "options": self.options,
            "notes": self.notes,
            "hash": self.data_hash,
        }


def padded(tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(n, longest) int64 rows padded at their right with 0, and (n,) their last places.

    A causal model's answer at a row's own last place does not depend on what follows it.
    """
    last = torch.tensor([len(row) - 1 for row in tokens])
    ids = torch.zeros(len(tokens), int(last.max()) + 1, dtype=torch.int64)
    for place, row in enumerate(tokens):
        ids[place, : len(row)] = torch.tensor(row)
    return ids, last


def letter_logits(model: Any, tokens: Sequence[Sequence[int]], rows: int = 8) -> list[Tensor]:
    """What the model gives each token of the vocabulary after each prompt: n of (vocabulary,)."""
    found: list[Tensor] = []
    for start in range(0, len(tokens), rows):
        ids, last = padded(tokens[start : start + rows])
        logits = model(input_ids=ids.to(device_of(model)), use_cache=False).logits
        found += list(logits[torch.arange(len(ids)), last.to(logits.device)].cpu())
    return found


def written_answer(model: Any, tokenizer: Any, tokens: Sequence[int]) -> str:
    """The first line that the model writes by its likeliest tokens."""
    ids = torch.tensor([list(tokens)], device=device_of(model))
    end = tokenizer.eos_token_id
    made = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=WRITTEN,
        do_sample=False, pad_token_id=end or 0,
    )  # fmt: skip
    text = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[0].strip() if lines else ""


def same_answer(said: str, right: str) -> bool:
    """Equal but for case, outer spaces and a last full stop."""
    one, other = (text.strip().rstrip(".").strip().casefold() for text in (said, right))
    return one == other
