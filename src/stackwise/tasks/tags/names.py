"""Texts tagged by a list of names: labels from a distance, where nobody has tagged by hand.

    records, dropped = labels_from_names(["I take Xanax"], ["Xanax", "Yes"])

A name is found word by word, whatever its case, the longest first. Names of fewer than three
letters and those that are ordinary words are dropped and listed: they would tag what is no name.
What the list lacks is left untagged, though it may be a name.
"""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from stackwise.errors import DataError
from stackwise.tasks.tags.schemes import Span
from stackwise.tasks.tags.words import key_of, words_of

LEAST_LETTERS = 3


def labels_from_names(
    texts: Iterable[str], names: Iterable[str], *, label: str = "name", common: Collection[str] = ()
) -> tuple[list[dict[str, Any]], list[str]]:
    """Tag every mention of a name.

    Args:
        label: the type of the names.
        common: names that are ordinary words in these texts, and are dropped, beside the commonest
            words of English.

    Returns:
        a record a text, `{"text": ..., "entities": [[start, end, label], ...]}`, as the task reads
        them, and the names that were dropped, sorted.

    Raises:
        DataError: no name is left.
    """
    kept, dropped = kept_names(names, common)
    if not kept:
        raise DataError("no name is left to tag by; give names of three letters or more")
    book = name_book(dict.fromkeys(kept, label))
    records = []
    for text in texts:
        found = words_of(text)
        spans = mentions(found.tokens, book)
        entities = [[found.places[a][0], found.places[b - 1][1], of] for a, b, of in spans]
        records.append({"text": text, "entities": entities})
    return records, dropped


def kept_names(
    names: Iterable[str], common: Collection[str] = ()
) -> tuple[list[tuple[str, ...]], list[str]]:
    """The words of each name that is kept, and the names that are dropped."""
    plain = {key_of(word) for word in common} | ENGLISH_STOP_WORDS
    kept: dict[tuple[str, ...], None] = {}
    dropped = set()
    for name in names:
        words = tuple(map(key_of, words_of(name).tokens))
        letters = sum(unicodedata.category(sign)[0] == "L" for word in words for sign in word)
        if letters < LEAST_LETTERS or key_of(name.strip()) in plain:
            dropped.add(name.strip())
        else:
            kept[words] = None
    return list(kept), sorted(dropped - {""})


NameBook = Mapping[str, Sequence[tuple[tuple[str, ...], str]]]
"""By the first word of names, those that begin with it, the longest first, and their types."""


def name_book(types: Mapping[tuple[str, ...], str]) -> NameBook:
    """Names and their types, ready to be looked for."""
    made: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for words, type_ in types.items():
        made.setdefault(words[0], []).append((words, type_))
    for found in made.values():
        found.sort(key=lambda one: (-len(one[0]), one[0]))
    return made


def mentions(tokens: Sequence[str], book: NameBook) -> list[Span]:
    """Where names stand among words, from left to right, the longest first."""
    words = [key_of(token) for token in tokens]
    found, place = [], 0
    while place < len(words):
        for name, type_ in book.get(words[place], ()):
            end = place + len(name)
            if tuple(words[place:end]) == name:
                found.append(Span(place, end, type_))
                break
        else:
            end = place + 1
        place = end
    return found
