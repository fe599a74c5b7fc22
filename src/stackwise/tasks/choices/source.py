"""Read questions: a list of dicts, JSON lines, or a table with a column for each choice."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackwise.errors import DataError
from stackwise.tasks.choices.answers import Rule, right_places
from stackwise.tasks.choices.options import (
    LETTERS,
    RIGHT,
    Options,
    gathered,
    keeps_apart,
    options_of,
)
from stackwise.tasks.language.content import is_given, text_of
from stackwise.tasks.language.records import ENDINGS, fields_of, is_saved_dataset, records_of


@dataclass(frozen=True)
class Question:
    """A question and what is right.

    Attributes:
        row: its number in the source.
        choices: of which one is right; empty where the answer is to be written.
        answer: the number of the right choice, or the text that must be written; an empty text
            where the source was not asked for it.
    """

    row: int
    text: str
    choices: tuple[str, ...]
    answer: int | str


def read_questions(
    source: Any,
    question: str = "question",
    choices: str = "choices",
    answer: str = "answer",
    *,
    rule: Rule | None = None,
    answered: bool = True,
) -> list[Question]:
    """The questions of a source.

    Args:
        source: a list of dicts, a frame, a file of records (.jsonl, .json, .csv, .parquet and
            others) or a folder that `datasets` saved.
        question, choices, answer: the fields. Choices are a list, {"text": [...], "label": [...]}
            or a column each (A, B, ..., choice1, choice2, ..., ending0, ...), or the right one and
            the wrong ones (correct_answer, distractor1, ...). Without choices the answer is the
            text that must be written.
        rule: how answers name a choice; the set says it itself where it is None, see `answers`.
        answered: whether every question must have an answer; if not, none is read.

    Raises:
        DataError: a question lacks a field, its answer is none of its choices, or may be several.
    """
    rows = _rows(source)
    if rows and all(keeps_apart(row, answer) for _, row in rows):
        rows = [(place, {**row, choices: gathered(row, question)}) for place, row in rows]
        answer, rule = RIGHT, rule or "text"
    read = [
        _read(number, place, row, question, choices, answer, answered)
        for number, (place, row) in enumerate(rows)
    ]
    if not read:
        raise DataError(f"{_named(source)} holds no questions")
    asked = [(where, options, told) for where, _, options, told in read if options.texts]
    places = iter(right_places(asked, rule) if answered and asked else ())
    # whether the set's answers are one letter or digit each
    by_sign = bool(asked) and all(len(f"{told}".strip()) == 1 for _, _, told in asked)
    found = []
    for number, (where, text, options, told) in enumerate(read):
        right: int | str = ""
        if answered:
            right = next(places) if options.texts else _written(where, answer, told, by_sign)
        found.append(Question(number, text, options.texts, right))
    return found


def _rows(source: Any) -> list[tuple[str, Any]]:
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fspath(source))
        if not path.is_file() and not is_saved_dataset(path):
            raise DataError(f"{path} is not a file; give questions as JSON lines or a table")
        if path.is_file() and path.suffix.lower() not in ENDINGS:
            raise DataError(f"{path} holds no questions by its name ({', '.join(ENDINGS)})")
        source = path
    return list(records_of(source))


def _named(source: Any) -> str:
    """A source in a sentence: a name as it is, an object by its kind."""
    is_name = isinstance(source, (str, os.PathLike))
    return os.fspath(source) if is_name else f"this {type(source).__name__}"


def _read(
    number: int, place: str, row: Any, question: str, choices: str, answer: str, answered: bool
) -> tuple[str, str, Options, Any]:
    """(which question, its text, its choices, its answer as the source has it)."""
    where = f"question {number + 1}" + (f" ({place})" if place else "")
    row = fields_of(row, where)
    for field in (question, answer) if answered else (question,):
        if not is_given(row.get(field)):
            listed = ", ".join(map(str, list(row)[:8]))
            state = "a blank field" if field in row else "no field"
            raise DataError(f"{where} has {state} {field!r}; it has {listed}")
    text = text_of(row[question], f"the {question!r} of {where}")
    options = options_of(where, row, choices, {question, choices, answer})
    if options.texts and not 2 <= len(options.texts) <= len(LETTERS):
        raise DataError(f"{where} has {len(options.texts)} choices; give 2 to {len(LETTERS)}")
    told = row.get(answer)
    if answered and (not isinstance(told, (str, int)) or isinstance(told, bool)):
        told = text_of(told, f"the {answer!r} of {where}")
    return where, text, options, told


def _written(where: str, field: str, told: Any, by_sign: bool) -> str:
    """The answer that must be written, of a question without choices.

    Args:
        by_sign: whether the other answers of the set are one letter or digit each, and name a
            choice.
    """
    if by_sign and len(f"{told}".strip()) == 1:
        raise DataError(
            f"{where} has no choices, or blank ones alone, and the answer {told!r}, as if it had; "
            "give its choices, or the answer as it is to be written"
        )
    return text_of(told, f"the {field!r} of {where}, which has no choices,")
