"""Read chats in the forms that people have them in.

    {"messages": [{"role": "user", "content": ...}, {"role": "assistant", ...}]}
    {"prompt": ..., "response": ...}                      (completion, output and answer too)
    {"instruction": ..., "input": ..., "output": ...}
    {"conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}]}

as a list, as JSON lines, or as a table with such columns. What is said is text, or parts of text
(`[{"type": "text", "text": ...}]`), and nothing is made text that is none. A field `phase`, or a
folder with a file a phase (in the order of their names), says which part of a curriculum a chat
belongs to; `unmask` says that all but the system's turns are learned.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackwise.errors import DataError
from stackwise.tasks.instructions.marks import ANSWERED, ASKED
from stackwise.tasks.language.content import is_given, text_of
from stackwise.tasks.language.records import (
    ENDINGS,
    Placed,
    fields_of,
    is_saved_dataset,
    records_of,
)

ROLES = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant",
    "gpt": "assistant", "model": "assistant", "bot": "assistant",
}  # fmt: skip
TURNS = ("messages", "conversations")
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
"""How a table of texts says that a chat is unmasked."""

Messages = tuple[tuple[str, str], ...]
"""(role, content) of each turn, the roles being system, user and assistant."""


@dataclass(frozen=True)
class Chat:
    """One sample.

    Attributes:
        row: its number in the source.
        messages: (role, content), the roles being system, user and assistant.
        phase: the part of a curriculum, or None.
        unmask: learn every turn but the system's.
        trimmed: turns after the last answer, from which nothing can be learned; they are gone.
    """

    row: int
    messages: Messages
    phase: str | None = None
    unmask: bool = False
    trimmed: int = 0

    @property
    def answer_length(self) -> int:
        """Characters of the assistant's turns: what difficulty is measured by."""
        return sum(len(content) for role, content in self.messages if role == "assistant")


def read_chats(source: Any) -> list[Chat]:
    """The chats of a list, a file, a folder, a frame or a packaged set.

    Raises:
        DataError: a sample is of no known form, holds something that is no text, or has no
            assistant turn; the sentence names it, and its line where it has one.
    """
    found: list[Chat] = []
    for phase, placed in _pieces(source):
        for place, row in placed:
            found.append(_chat(len(found), place, row, phase))
    if not found:
        raise DataError(f"{_named(source)} holds no chats")
    return found


def read_asked(source: Any) -> list[Messages]:
    """What each sample asks: its turns up to the last answer, which may be there or not.

    Raises:
        DataError: as for `read_chats`; or nothing is asked before the answer.
    """
    found: list[Messages] = []
    for _, placed in _pieces(source):
        for place, row in placed:
            where = _where(len(found), place)
            messages = _messages(where, row, answered=False)
            asked = messages[:-1] if messages[-1][0] == "assistant" else messages
            if not asked:
                raise DataError(f"{where} asks nothing: it has no turn before its answer")
            found.append(asked)
    if not found:
        raise DataError(f"{_named(source)} holds no chats")
    return found


def _pieces(source: Any) -> Iterator[tuple[str | None, Iterator[Placed]]]:
    """The records of a source, with the phase of each file where there are several."""
    if isinstance(source, Mapping):
        yield from ((str(name), records_of(list(rows))) for name, rows in source.items())
        return
    if not isinstance(source, (str, os.PathLike)):
        yield None, records_of(source)
        return
    path = Path(os.fspath(source))
    if path.is_dir() and not is_saved_dataset(path):
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS)
        if not files:
            raise DataError(f"the folder {path} holds no files of chats ({', '.join(ENDINGS)})")
        several = len(files) > 1
        yield from ((file.stem if several else None, records_of(file)) for file in files)
    elif path.exists():
        yield None, records_of(path)
    else:
        yield None, _packaged(str(source))


def _packaged(name: str) -> Iterator[Placed]:
    from stackwise import data

    if name not in {entry.name for entry in data.names("chats")}:
        raise DataError(f"{name} is no file, no folder and no packaged set of chats")
    return records_of(list(data.chats(name)))


def _named(source: Any) -> str:
    """A source in a sentence: a name as it is, an object by its kind."""
    is_name = isinstance(source, (str, os.PathLike))
    return os.fspath(source) if is_name else f"this {type(source).__name__}"


def _where(number: int, place: str) -> str:
    return f"sample {number + 1}" + (f" ({place})" if place else "")


def _chat(number: int, place: str, row: Any, phase: str | None) -> Chat:
    where = _where(number, place)
    messages = _messages(where, row)
    if not any(role == "assistant" for role, _ in messages):
        raise DataError(f"{where} has no assistant turn: nothing to learn from")
    trimmed = 0
    while messages[-1][0] != "assistant":
        messages, trimmed = messages[:-1], trimmed + 1
    own = _phase(where, row["phase"]) if is_given(row.get("phase")) else phase
    return Chat(number, messages, own, _unmask(where, row.get("unmask")), trimmed)


def _phase(where: str, given: Any) -> str:
    """The name of a phase: a text, or a whole number."""
    if isinstance(given, int) and not isinstance(given, bool):
        return f"{given:d}"
    return text_of(given, f"the 'phase' of {where}")


def _unmask(where: str, given: Any) -> bool:
    if not is_given(given) or isinstance(given, bool):
        return bool(given)
    said = TRUTHS.get(f"{given}".strip().lower())
    if said is None:
        raise DataError(f"the 'unmask' of {where} is {given!r}; it is true or false")
    return said


def _messages(where: str, row: Any, *, answered: bool = True) -> Messages:
    """The turns of a sample.

    Args:
        answered: whether a pair must have its answer.
    """
    row = fields_of(row, where)
    for field in TURNS:
        if is_given(row.get(field)) and row[field] != []:
            return _turns(where, field, row[field])
    asked = next((name for name in ASKED if is_given(row.get(name))), None)
    said = next((name for name in ANSWERED if is_given(row.get(name))), None)
    if asked is None or (answered and said is None):
        wanted = "a prompt and a response" if answered else "a prompt"
        listed = ", ".join(
            f"{name}" if is_given(row[name]) else f"a blank {name}" for name in list(row)[:8]
        )
        raise DataError(f"{where} has neither messages nor {wanted}; it has {listed or 'nothing'}")

    def read(name: str) -> str:
        return text_of(row[name], f"the {name!r} of {where}")

    question = read(asked)
    if is_given(row.get("input")):
        question = f"{question}\n\n{read('input')}"
    system = [("system", read("system"))] if is_given(row.get("system")) else []
    answer = [("assistant", read(said))] if said is not None else []
    return (*system, ("user", question), *answer)


def _turns(where: str, field: str, turns: Any) -> Messages:
    """The turns of a list of them."""
    if not isinstance(turns, (list, tuple)):
        raise DataError(
            f"the {field!r} of {where} is a {type(turns).__name__}, not a list of turns; keep "
            "such chats as JSON lines or Parquet"
        )
    found = []
    for place, turn in enumerate(turns, start=1):
        which = f"turn {place} of {where}"
        if not isinstance(turn, Mapping):
            raise DataError(f"{which} is a {type(turn).__name__}, not a role and a content")
        role = turn["role"] if is_given(turn.get("role")) else turn.get("from")
        known = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
        if known is None:
            said = f"{where} has a turn of {role!r}" if is_given(role) else f"{which} has no role"
            raise DataError(f"{said}; roles are system, user, assistant")
        content = turn["content"] if turn.get("content") is not None else turn.get("value")
        found.append((known, text_of(content, f"the content of {which}")))
    return tuple(found)
