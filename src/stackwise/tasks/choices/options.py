"""The choices of a question, in the forms that public sets have them in.

    a list              ["red", "blue"]
    two lists           {"text": ["red", "blue"], "label": ["1", "2"]}
    by label            {"A": "red", "B": "blue"}
    a column each       A, B, C, ...; choice1, choice2, ...; option_a, ...; ending0, ...; opa, ...
    right and wrong     correct_answer, distractor1, distractor2, ...

Each choice keeps what it is called, where it is called something: an answer names it so. A blank
choice is none, and the answer that names it is refused; a text by itself is no list.
"""

import hashlib
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stackwise.errors import DataError
from stackwise.tasks.language.content import is_given, text_of

LETTERS = string.ascii_uppercase
NAMED = re.compile(r"(choice|option|ending|answer|op|sol|)[ _]?([a-z]|\d{1,2})", re.I)
"""Columns of choices: a word that says so and a letter or a number, or the letter alone."""
RIGHT = "correct_answer"
WRONG = re.compile(r"distractor[ _]?\d{1,2}", re.I)
"""Columns of a set that keeps the right choice apart from the wrong ones, such as sciq."""


@dataclass(frozen=True)
class Options:
    """The choices of a question that are not blank.

    Attributes:
        texts: what they say.
        places: which of the question's choices each is, the blank ones counted, from 0.
        labels: what its file calls each, such as A or 1; empty where it gives them no names.
    """

    texts: tuple[str, ...]
    places: tuple[int, ...]
    labels: tuple[str, ...] = ()


def options_of(where: str, row: Mapping[str, Any], field: str, others: set[str]) -> Options:
    """The choices of a record; none where it has none, or blank ones alone.

    Args:
        field: where they are; else columns are looked for.
        others: fields that hold something else: the question and the answer.

    Raises:
        DataError: they are one text, or not texts.
    """
    given = row.get(field)
    if is_given(given) and not (isinstance(given, str) and not given.strip()):
        labels, found = _of_field(f"the {field!r} of {where}", given)
    else:
        names = column_names(row, others)
        found = [row[name] for name in names]
        labels = _labels_of_columns(names)
    kept = [
        (place, text_of(one, f"choice {place + 1} of {where}"))
        for place, one in enumerate(found)
        if is_given(one) and not (isinstance(one, str) and not one.strip())
    ]
    places = tuple(place for place, _ in kept)
    return Options(
        tuple(text for _, text in kept), places, tuple(labels[p] for p in places if labels)
    )


def keeps_apart(row: Any, answer: str) -> bool:
    """Whether a record has its right choice in one column and the wrong ones in others.

    Args:
        answer: the field of the answer; where the record has it, that one counts.
    """
    if not isinstance(row, Mapping) or (answer in row and answer != RIGHT):
        return False
    return RIGHT in row and bool(_wrong(row))


def gathered(row: Mapping[str, Any], question: str) -> list[Any]:
    """The right choice of a record and the wrong ones, each once, in an order that depends on
    what they say alone: it is the same everywhere, and the place of the right one says nothing.
    """
    found = [row[name] for name in (RIGHT, *_wrong(row)) if is_given(row[name])]
    once = {f"{one}".strip(): one for one in reversed(found)}

    def mixed(text: str) -> bytes:
        return hashlib.sha256(f"{row.get(question)}\n{text}".encode()).digest()

    return [once[text] for text in sorted(once, key=mixed)]


def _wrong(row: Mapping[str, Any]) -> list[str]:
    return [name for name in row if isinstance(name, str) and WRONG.fullmatch(name)]


def column_names(row: Mapping[str, Any], others: set[str]) -> list[str]:
    """The columns that hold a choice each, in their order: of one word, and without a gap."""
    of_word: dict[str, dict[str, str]] = {}
    for name in row:
        found = NAMED.fullmatch(name) if isinstance(name, str) and name not in others else None
        if found and (found[1] or found[2].isalpha()):
            of_word.setdefault(found[1].lower(), {})[found[2].lower()] = name
    best: list[str] = []
    for named in of_word.values():
        run = max((list(_run(named, signs)) for signs in _series()), key=len)
        best = run if len(run) > max(len(best), 1) else best
    return best


def _series() -> list[list[str]]:
    numbers = [str(number) for number in range(27)]
    return [list(string.ascii_lowercase), numbers[:-1], numbers[1:]]


def _run(named: Mapping[str, str], signs: list[str]) -> Iterator[str]:
    for sign in signs:
        if sign not in named:
            return
        yield named[sign]


def _labels_of_columns(names: list[str]) -> list[str]:
    """What columns call their choices: a letter, or a number where they are counted from 0. Sets
    that count columns from 1 count answers from 0 as well as from 1, so these name nothing.
    """
    signs = [found[2].upper() for name in names if (found := NAMED.fullmatch(name))]
    return [] if signs[:1] == ["1"] else signs


def _of_field(what: str, given: Any) -> tuple[list[str], list[Any]]:
    """Labels, empty for none, and choices of a field."""
    if isinstance(given, str):
        raise DataError(
            f"{what} is one text, {given[:40]!r}; give a list of choices, or a column for each"
        )
    if isinstance(given, Mapping):
        labels, texts = given.get("label", given.get("labels")), given.get("text")
        if texts is None:  # {"A": "red", "B": "blue"}
            named = {str(key): one for key, one in given.items() if one is not None}
            return list(named), list(named.values())
        return _labels(what, labels, texts), list(texts)
    if not isinstance(given, (list, tuple)):
        raise DataError(f"{what} is a {type(given).__name__}; give a list of choices")
    if given and all(isinstance(one, Mapping) for one in given):  # [{"label": "A", "text": ...}]
        labels = [one.get("label", one.get("key")) for one in given]
        texts = [one.get("text") for one in given]
        return _labels(what, None if None in labels else labels, texts), texts
    return [], list(given)


def _labels(what: str, labels: Any, texts: Any) -> list[str]:
    if labels is None:
        return []
    if not isinstance(labels, (list, tuple)) or not isinstance(texts, (list, tuple)):
        raise DataError(f"{what} has a text or a label that is no list; give a list of each")
    if len(labels) != len(texts):
        raise DataError(f"{what} has {len(texts)} texts and {len(labels)} labels")
    return [f"{label}".strip() for label in labels]
