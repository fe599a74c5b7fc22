"""From a chat to tokens and labels: what is learned is the answers and the mark that ends them.

The tokenizer's own chat template says how a chat is written. Where the assistant's turns are in
the written text is found by writing the chat up to each of them, with the prompt that asks for an
answer, and once more with the answer: the second must begin with the first. A template for which
that does not hold, or whose answers do not end with the token that ends a text, is refused: a
model trained so would learn the user's words, or never learn to stop.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stackwise.errors import DataError
from stackwise.tasks.instructions.source import Chat

IGNORED = -100
PLAIN = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n' }}"
    "{% else %}{{ 'Assistant: ' + message['content'] + eos_token + '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""The template of a tokenizer that has none."""


@dataclass(frozen=True)
class Encoded:
    """A chat as numbers: `labels` are the tokens that are learned, and -100 elsewhere."""

    row: int
    ids: tuple[int, ...]
    labels: tuple[int, ...]
    prompt: int
    """Tokens before the first answer."""

    @property
    def learned(self) -> int:
        """Tokens that are learned. The first token of a text has none before it."""
        return sum(label != IGNORED for label in self.labels[1:])


def with_template(tokenizer: Any) -> tuple[Any, str | None]:
    """The tokenizer, with a plain template where it has none, and a sentence that says so.

    Raises:
        DataError: the tokenizer has no token that ends a text.
    """
    if tokenizer.eos_token is None:
        raise DataError(
            "the tokenizer has no end token, so that no answer could end; set eos_token"
        )
    if tokenizer.chat_template:
        return tokenizer, None
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = PLAIN
    return (
        tokenizer,
        "the tokenizer has no chat template: turns are written as User: and Assistant:",
    )


def encode(chat: Chat, tokenizer: Any) -> Encoded:
    """Tokens and labels of a chat.

    Raises:
        DataError: the template refuses the chat, leaves a turn out, does not say where an answer
            is, or ends it with no end token.
    """
    text = _written(chat.messages, tokenizer, where=f"sample {chat.row + 1}")
    _check_all_there(chat, text)
    spans = [
        _span(chat, place, tokenizer, text)
        for place, (role, _) in enumerate(chat.messages)
        if role == "assistant"
    ]
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, places = found["input_ids"], found["offset_mapping"]
    labels = [IGNORED] * len(ids)
    for start, stop in spans:
        for i, (first, last) in enumerate(places):
            # a token that begins before the answer and reaches into it is a part of the answer
            if last > start and last <= stop and last > first:
                labels[i] = ids[i]
    first = next(i for i, label in enumerate(labels) if label != IGNORED)
    if chat.unmask:
        special = set(tokenizer.all_special_ids)
        begin = _length_of_system(chat, tokenizer)
        labels = [
            token if label != IGNORED or (token not in special and place[0] >= begin) else IGNORED
            for token, label, place in zip(ids, labels, places, strict=True)
        ]
    return Encoded(chat.row, tuple(ids), tuple(labels), first)


def prompt_text(messages: Sequence[tuple[str, str]], tokenizer: Any, where: str = "a chat") -> str:
    """What the model reads before it answers.

    Raises:
        DataError: the template refuses `where`.
    """
    return _written(messages, tokenizer, asks=True, where=where)


def folded(messages: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The turns without those of the system, whose text stands before that of the next user's.

    For templates that take no system turn.
    """
    found: list[tuple[str, str]] = []
    waiting: list[str] = []
    for role, content in messages:
        if role == "system":
            waiting.append(content)
            continue
        if waiting and role != "user":
            found.append(("user", "\n\n".join(waiting)))
        elif waiting:
            content = "\n\n".join([*waiting, content])
        waiting = []
        found.append((role, content))
    return tuple(found)


def _written(
    messages: Sequence[tuple[str, str]], tokenizer: Any, *, asks: bool = False, where: str
) -> str:
    from jinja2 import TemplateError

    turns = [{"role": role, "content": content} for role, content in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=asks))
    except (TemplateError, TypeError) as error:
        said = str(error).strip().rstrip(".") or type(error).__name__
        raise DataError(f"the chat template refuses {where} ({said}); {_way_out(turns)}") from error


def _way_out(turns: Sequence[dict[str, str]]) -> str:
    """What to do about turns that a template does not take."""
    if any(turn["role"] == "system" for turn in turns):
        return "give --fold-system, which puts the system's text before the user's"
    return "give turns of user and assistant by turns, or mend the template"


def _check_all_there(chat: Chat, text: str) -> None:
    """Refuse a template that leaves out what the system or the user says."""
    for role, content in chat.messages:
        if role != "assistant" and content.strip() not in text:
            hint = f"; {_way_out([{'role': role}])}" if role == "system" else ""
            raise DataError(
                f"the chat template leaves out what the {role} says in sample {chat.row + 1}{hint}"
            )


def _span(chat: Chat, place: int, tokenizer: Any, text: str) -> tuple[int, int]:
    """Where an answer begins and, its end mark included, ends in the written chat."""
    where = f"sample {chat.row + 1}"
    before = _written(chat.messages[:place], tokenizer, asks=True, where=where)
    after = _written(chat.messages[: place + 1], tokenizer, where=where)
    if not (after.startswith(before) and text.startswith(after)):
        raise DataError(
            f"the chat template does not say where answer {place + 1} of sample {chat.row + 1} is: "
            "it writes earlier turns otherwise when later ones follow; give another template"
        )
    end = after.find(tokenizer.eos_token, len(before))
    if end < 0:
        marks = [mark for mark in tokenizer.all_special_tokens if mark in after[len(before) :]]
        mark = marks[-1] if marks else "no special token"
        raise DataError(
            f"the chat template ends an answer with {mark}, not with the tokenizer's end token "
            f"{tokenizer.eos_token}: the model would not learn to stop; set eos_token to the mark "
            "that ends a turn, or mend the template"
        )
    return len(before), end + len(tokenizer.eos_token)


def _length_of_system(chat: Chat, tokenizer: Any) -> int:
    system = [message for message in chat.messages if message[0] == "system"]
    return len(_written(system, tokenizer, where=f"sample {chat.row + 1}")) if system else 0
