"""Read chats in the forms that people have them in.

    {"messages": [{"role": "user", "content": ...}, {"role": "assistant", ...}]}
    {"prompt": ..., "response": ...}                      (completion, output and answer too)
    {"instruction": ..., "input": ..., "output": ...}
    {"conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}]}

as a list, as JSON lines, or as a table with such columns. A field `phase`, or a folder with a
file a phase (in the order of their names), says which part of a curriculum a chat belongs to;
`unmask` says that all but the system's turns are learned.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackwise.errors import DataError

ROLES = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant",
    "gpt": "assistant", "model": "assistant", "bot": "assistant",
}  # fmt: skip
ASKED = ("prompt", "question", "instruction")
ANSWERED = ("response", "completion", "output", "answer")
ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


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
    messages: tuple[tuple[str, str], ...]
    phase: str | None = None
    unmask: bool = False
    trimmed: int = 0

    @property
    def answer_length(self) -> int:
        """Characters of the assistant's turns: what difficulty is measured by."""
        return sum(len(content) for role, content in self.messages if role == "assistant")


def read_chats(source: Any) -> list[Chat]:
    """The chats of a list, a file, a folder or a packaged set.

    Raises:
        DataError: a sample is of no known form, or has no assistant turn.
    """
    found: list[Chat] = []
    for phase, rows in _pieces(source):
        for row in rows:
            found.append(_chat(len(found), row, phase))
    if not found:
        raise DataError(f"{source} holds no chats")
    return found


def _pieces(source: Any) -> list[tuple[str | None, list[Any]]]:
    if isinstance(source, (list, tuple)):
        return [(None, list(source))]
    if isinstance(source, Mapping):
        return [(str(name), list(rows)) for name, rows in source.items()]
    path = Path(os.fspath(source))
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS)
        if not files:
            raise DataError(f"the folder {path} holds no files of chats ({', '.join(ENDINGS)})")
        several = len(files) > 1
        return [(file.stem if several else None, _rows(file)) for file in files]
    if path.is_file():
        return [(None, _rows(path))]
    from stackwise import data

    if str(source) in {entry.name for entry in data.names("chats")}:
        return [(None, list(data.chats(str(source))))]
    raise DataError(f"{source} is no file, no folder and no packaged set of chats")


def _rows(path: Path) -> list[Any]:
    if path.suffix.lower() in (".csv", ".tsv", ".parquet"):
        from stackwise.tasks.table.source import read_table

        return [dict(row) for row in read_table(path).to_dict("records")]
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() == ".json":
        whole = json.loads(text)
        if not isinstance(whole, list):
            raise DataError(f"{path} holds no list of chats")
        return whole
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise DataError(f"line {number} of {path} is no JSON ({error.msg})") from error
    return rows


def _chat(number: int, row: Any, phase: str | None) -> Chat:
    where = f"sample {number + 1}"
    if not isinstance(row, Mapping):
        raise DataError(f"{where} is a {type(row).__name__}, not a set of fields")
    messages = _messages(where, row)
    if not any(role == "assistant" for role, _ in messages):
        raise DataError(f"{where} has no assistant turn: nothing to learn from")
    trimmed = 0
    while messages[-1][0] != "assistant":
        messages, trimmed = messages[:-1], trimmed + 1
    given = row.get("phase")
    own = phase if given is None or given != given else str(given)
    return Chat(number, messages, own, bool(row.get("unmask", False)), trimmed)


def _messages(where: str, row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    turns = row.get("messages") or row.get("conversations")
    if turns is not None:
        found = []
        for turn in turns:
            role = str(turn.get("role", turn.get("from")))
            if role not in ROLES:
                raise DataError(
                    f"{where} has a turn of {role!r}; roles are system, user, assistant"
                )
            found.append((ROLES[role], str(turn.get("content", turn.get("value", "")))))
        return tuple(found)
    asked = next((str(row[name]) for name in ASKED if _given(row.get(name))), None)
    said = next((str(row[name]) for name in ANSWERED if _given(row.get(name))), None)
    if asked is None or said is None:
        listed = ", ".join(map(str, list(row)[:8]))
        raise DataError(
            f"{where} has neither messages nor a prompt and a response; it has "
            f"{listed or 'nothing'}"
        )
    if _given(row.get("input")):
        asked = f"{asked}\n\n{row['input']}"
    system = [("system", str(row["system"]))] if _given(row.get("system")) else []
    return (*system, ("user", asked), ("assistant", said))


def _given(value: Any) -> bool:
    return value is not None and value == value and str(value) != ""
