"""Tags and spans: BIO, IOBES and 0/1, and the way from each to the others.

tokens   took  Abilify  Maintena  and  Xanax
spans          (1, 3, drug)            (4, 5, drug)       from a token to before another
BIO      O     B-drug   I-drug    O    B-drug
IOBES    O     B-drug   E-drug    O    S-drug             also as BILOU: L for E, U for S
0/1      0     1        1         0    1                  two names in a row are one
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from stackwise.errors import DataError

Scheme = Literal["BIO", "IOBES", "01"]
OUTSIDE = "O"
PLAIN = "entity"
"""The type of names that are tagged 1."""
_TAG = re.compile(r"([BIESLU])(?:-(.+))?", re.DOTALL)
_SAME = {"L": "E", "U": "S"}


class Span(NamedTuple):
    """A name: the tokens from `start` to before `end`, and its type."""

    start: int
    end: int
    type: str


def scheme_of(rows: Iterable[Sequence[str]]) -> Scheme:
    """The scheme of all tags of a source: 0/1 where there is nothing else, IOBES where a tag begins
    with E, S, L or U, else BIO.
    """
    found = {tag for row in rows for tag in row}
    if found and found <= {"0", "1"}:
        return "01"
    return "IOBES" if any(tag[:1] in "ESLU" and tag[1:2] in ("", "-") for tag in found) else "BIO"


def spans_of(
    tags: Sequence[str], scheme: Scheme, where: str = "a sentence", *, repair: bool = False
) -> list[Span]:
    """The names that tags mark.

    Args:
        where: the tags stand, for what is said of them.
        repair: a tag that cannot follow the one before it begins a name, or ends one too early, in
            place of an error.

    Raises:
        DataError: a tag is none, or cannot follow the one before it.
    """
    found: list[Span] = []
    if scheme == "01":
        start = None
        for place, tag in enumerate([*tags, "0"]):
            if tag not in ("0", "1"):
                raise DataError(f'unknown tag "{tag}" in {where}; of 0/1 tags each is 0 or 1')
            if tag == "1" and start is None:
                start = place
            elif tag == "0" and start is not None:
                found.append(Span(start, place, PLAIN))
                start = None
        return found
    open_: Span | None = None  # a name that may go on
    before = OUTSIDE
    for place, tag in enumerate(tags):
        kind, type_ = parsed(tag, where)
        goes_on = kind in "IE"
        fits = open_ is not None and open_.type == type_
        if goes_on and not fits and not repair:
            raise DataError(
                f'tag "{tag}" follows "{before}" in {where} ({scheme}); a name begins with '
                f'"B-{type_}" (--repair reads it so)'
            )
        if scheme == "IOBES" and open_ is not None and not (goes_on and fits) and not repair:
            raise DataError(
                f'tag "{tag}" follows "{before}" in {where} ({scheme}); a name of several words '
                f'ends with "E-{open_.type}" (--repair reads it so)'
            )
        if open_ is not None and not (goes_on and fits):
            found.append(open_)
            open_ = None
        if kind != OUTSIDE:
            begins = place if open_ is None else open_.start
            open_ = Span(begins, place + 1, type_)
        if kind in "ES" and open_ is not None:
            found.append(open_)
            open_ = None
        before = tag
    if open_ is not None:
        if scheme == "IOBES" and not repair:
            raise DataError(
                f'{where} ends with "{before}" ({scheme}); a name of several words ends with '
                f'"E-{open_.type}" (--repair reads it so)'
            )
        found.append(open_)
    return found


def parsed(tag: str, where: str) -> tuple[str, str]:
    """What a tag says, one of O, B, I, E and S, and of which type; `PLAIN` where it names none.

    Raises:
        DataError: it is no tag.
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise DataError(f'unknown tag "{tag}" in {where}; a tag is O, or such as B-drug and I-drug')
    return _SAME.get(match[1], match[1]), match[2] or PLAIN


def tags_of(spans: Iterable[Span], length: int, scheme: Scheme) -> list[str]:
    """The tags of so many tokens that mark spans which do not overlap."""
    if scheme == "01":
        tags = ["0"] * length
        for start, end, _ in spans:
            tags[start:end] = ["1"] * (end - start)
        return tags
    tags = [OUTSIDE] * length
    for start, end, type_ in spans:
        more = end - start - 1
        if scheme == "BIO":
            tags[start:end] = [f"B-{type_}", *[f"I-{type_}"] * more]
        elif not more:
            tags[start] = f"S-{type_}"
        else:
            tags[start:end] = [f"B-{type_}", *[f"I-{type_}"] * (more - 1), f"E-{type_}"]
    return tags
