"""By which rule a set writes its answers: by label, letter, text, or number from 0 or from 1.

One rule holds for a whole set, so the set is asked: a rule under which an answer names none of its
question's choices is not the set's. Labels that a set gives its choices go before letters and
numbers. Where several are left that name different choices (an answer
"2" among "1", "2" and "3", or numbers that neither begin at 0 nor reach the last choice), which one
is meant cannot be known, and the user is asked.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from stackwise.errors import DataError
from stackwise.tasks.choices.options import LETTERS, Options

Rule = Literal["label", "letter", "text", "0", "1"]
MEANINGS = {
    "label": "the label of a choice", "letter": "a letter", "text": "the text of a choice",
    "0": "a number from 0", "1": "a number from 1",
}  # fmt: skip

Asked = tuple[str, Options, Any]
"""(which question, its choices, its answer)."""


def right_places(asked: Sequence[Asked], rule: Rule | None = None) -> list[int]:
    """Which of its question's choices each answer names, of those that are not blank.

    Args:
        rule: the set's; found from all its answers where it is None.

    Raises:
        DataError: an answer names no choice, or the rules that fit do not name the same.
    """
    if rule is not None:
        return [_checked(one, RULES[rule]([one])[0], rule) for one in asked]
    read: dict[Rule, list[int | None]] = {name: reader(asked) for name, reader in RULES.items()}
    fitting = {name: places for name, places in read.items() if None not in places}
    if "label" in fitting:  # which the set gives for just this
        fitting = {name: one for name, one in fitting.items() if name in ("label", "text")}
    if not fitting:
        best = max(read, key=lambda name: sum(place is not None for place in read[name]))
        first = read[best].index(None)
        return [_checked(asked[first], None, best if any(_seen(read[best])) else None)]
    places = next(iter(fitting.values()))
    named_by = zip(*fitting.values(), strict=True)
    differs = next((i for i, row in enumerate(named_by) if len(set(row)) > 1), None)
    if differs is not None:
        where, options, answer = asked[differs]
        named: dict[str, Rule] = {}
        for name, found in fitting.items():
            named.setdefault(options.texts[int(found[differs] or 0)], name)
        meant = " or ".join(f"{MEANINGS[name]} ({text!r})" for text, name in named.items())
        raise DataError(
            f"the answer {answer!r} of {where} may be {meant}, and the other answers do not say "
            f"which; say it with --answer-rule {' or '.join(named.values())}"
        )
    return [int(place or 0) for place in places]


def _seen(places: Sequence[int | None]) -> list[bool]:
    return [place is not None for place in places]


def _checked(one: Asked, place: int | None, rule: Rule | None) -> int:
    if place is None:
        where, options, answer = one
        as_rule = f" as {MEANINGS[rule]}" if rule is not None else ""
        raise DataError(
            f"the answer {answer!r} of {where} is none of its {len(options.texts)} choices"
            f"{as_rule}; give a letter, a number, or the choice itself, by one rule for all"
        )
    return place


def _by_label(asked: Sequence[Asked]) -> list[int | None]:
    return [_only(options.labels, _word(answer)) for _, options, answer in asked]


def _by_letter(asked: Sequence[Asked]) -> list[int | None]:
    found: list[int | None] = []
    for _, options, answer in asked:
        letter = _word(answer).upper()
        place = LETTERS.find(letter) if len(letter) == 1 else -1
        found.append(_kept(options, place))
    return found


def _by_text(asked: Sequence[Asked]) -> list[int | None]:
    return [_only([t.strip() for t in one.texts], _word(answer)) for _, one, answer in asked]


def _from(first: int) -> Callable[[Sequence[Asked]], list[int | None]]:
    def read(asked: Sequence[Asked]) -> list[int | None]:
        numbers = [_word(answer) for _, _, answer in asked]
        return [
            _kept(options, int(number) - first) if number.isascii() and number.isdigit() else None
            for number, (_, options, _) in zip(numbers, asked, strict=True)
        ]

    return read


RULES: Mapping[Rule, Callable[[Sequence[Asked]], list[int | None]]] = {
    "label": _by_label, "letter": _by_letter, "text": _by_text, "0": _from(0), "1": _from(1),
}  # fmt: skip


def _word(answer: Any) -> str:
    """An answer in signs: a text, or a whole number."""
    return answer.strip() if isinstance(answer, str) else f"{answer:d}"


def _only(names: Sequence[str], wanted: str) -> int | None:
    """Where `wanted` stands among names; None where it does not, or more than once."""
    return names.index(wanted) if names.count(wanted) == 1 else None


def _kept(options: Options, place: int) -> int | None:
    """Where the choice of this place is among those that are not blank."""
    return options.places.index(place) if place in options.places else None
