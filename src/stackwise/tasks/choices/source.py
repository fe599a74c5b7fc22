"""Read questions: a list of dicts, JSON lines, or a table with a column for each choice."""

import json
import os
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackwise.errors import DataError

LETTERS = string.ascii_uppercase


@dataclass(frozen=True)
class Question:
    """A question and what is right.

    Attributes:
        row: its number in the source.
        choices: of which one is right; empty where the answer is to be written.
        answer: the number of the right choice, or the text that must be written.
    """

    row: int
    text: str
    choices: tuple[str, ...]
    answer: int | str


def read_questions(source: Any, question: str, choices: str, answer: str) -> list[Question]:
    """The questions of a source.

    Args:
        source: a list of dicts, a .jsonl file, or a .csv or .parquet table.
        question, choices, answer: the fields. Choices are a list, or columns A, B, C, ...; the
            answer is a letter, a number (from 0), or the text of the right choice. Without
            choices it is the text that must be written.

    Raises:
        DataError: a question lacks a field, or its answer is none of its choices.
    """
    rows = _rows(source)
    found = [_question(number, row, question, choices, answer) for number, row in enumerate(rows)]
    if not found:
        raise DataError(f"{source} holds no questions")
    return found


def _rows(source: Any) -> list[Mapping[str, Any]]:
    if isinstance(source, (list, tuple)):
        return list(source)
    path = Path(os.fspath(source))
    if not path.is_file():
        raise DataError(f"{path} is not a file; give questions as JSON lines or a table")
    if path.suffix.lower() in (".csv", ".tsv", ".parquet"):
        from stackwise.tasks.table.source import read_table

        return [dict(row) for row in read_table(path).to_dict("records")]
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise DataError(f"line {number} of {path} is no JSON ({error.msg})") from error
    return rows


def _question(number: int, row: Any, question: str, choices: str, answer: str) -> Question:
    where = f"question {number + 1}"
    if not isinstance(row, Mapping):
        raise DataError(f"{where} is a {type(row).__name__}, not a set of fields")
    for field in (question, answer):
        if row.get(field) is None or row[field] == "":
            listed = ", ".join(map(str, list(row)[:8]))
            raise DataError(f"{where} has no field {field!r}; it has {listed}")
    given = row.get(choices)
    if isinstance(given, Mapping):  # {"label": [...], "text": [...]}, as some public sets have it
        given = given.get("text")
    if given is None:
        given = [row[letter] for letter in LETTERS if row.get(letter) not in (None, "")]
    options = tuple(str(option) for option in given)
    if not options:
        return Question(number, str(row[question]), (), str(row[answer]))
    if not 2 <= len(options) <= len(LETTERS):
        raise DataError(f"{where} has {len(options)} choices; give 2 to {len(LETTERS)}")
    return Question(number, str(row[question]), options, _place(where, row[answer], options))


def _place(where: str, answer: Any, options: tuple[str, ...]) -> int:
    """The number of the right choice."""
    text = str(answer).strip()
    if text in options:
        return options.index(text)
    if isinstance(answer, int) or text.isdigit():
        place = int(answer)
    elif len(text) == 1 and text.upper() in LETTERS:
        place = LETTERS.index(text.upper())
    else:
        place = -1
    if not 0 <= place < len(options):
        raise DataError(
            f"the answer {answer!r} of {where} is none of its {len(options)} choices; give a "
            "letter, a number from 0, or the choice itself"
        )
    return place
