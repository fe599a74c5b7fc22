"""How a question is put to a model, and what the model says of it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from stackwise.errors import DataError
from stackwise.tasks.choices.options import LETTERS
from stackwise.tasks.choices.source import Question
from stackwise.tasks.language.reading import context_of, device_of, tokenizer_for
from stackwise.tasks.language.writing import write_lines

Template = Literal["plain", "chat"]
WRITTEN = 16
"""Tokens of an answer that is written."""


def prompt_of(question: Question, tokenizer: Any, template: Template) -> str:
    """What the model reads.

    Raises:
        DataError: the tokenizer has no chat template, and one is wanted.
    """
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, question.choices)]
    if template == "plain":
        return "\n".join([f"Question: {question.text}", *lines, "Answer:"])
    if not tokenizer.chat_template:
        raise DataError("the tokenizer has no chat template; leave the template plain")
    asked = "\n".join([question.text, *lines])
    if lines:
        asked += "\nAnswer with the letter alone."
    chat = [{"role": "user", "content": asked}]
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


def letter_tokens(tokenizer: Any, count: int, template: Template) -> list[int]:
    """The token of each letter, as it follows the prompt.

    Raises:
        DataError: the tokenizer writes letters with several tokens, or two alike.
    """
    before = "" if template == "chat" else " "
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


@torch.no_grad()
def write_said(
    path: Path | str, learner: Any, questions: Sequence[Question], template: Template
) -> int:
    """Ask every question and write a line of JSON for each; returns their number.

    `said` is the letter of the choice that is taken, and `choice` its text; without choices, what
    the model writes. A question that is longer than the model's context gets a `note` instead.
    """
    model = getattr(learner, "model_", learner)
    tokenizer = tokenizer_for(model, learner, "questions")
    most = context_of(model)

    def lines() -> Iterator[dict[str, Any]]:
        for one in questions:
            text = prompt_of(one, tokenizer, template)
            ids = tokenizer(text, add_special_tokens=template == "plain")["input_ids"]
            shown: dict[str, Any] = {"question": one.text}
            if most is not None and len(ids) > most:
                note = f"the question has {len(ids)} tokens, and the model takes {most}"
                yield shown | {"said": None, "note": note}
            elif one.choices:
                (logits,) = letter_logits(model, [ids])
                letters = letter_tokens(tokenizer, len(one.choices), template)
                place = int(logits[letters].float().argmax())
                yield shown | {"said": LETTERS[place], "choice": one.choices[place]}
            else:
                yield shown | {"said": written_answer(model, tokenizer, ids)}

    return write_lines(path, lines())


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
