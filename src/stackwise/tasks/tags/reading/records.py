"""Records as sentences: with words and their tags, or with a text and the places of its names.

{"tokens": ["I", "take", "Xanax"], "ner_tags": ["O", "O", "B-drug"]}
{"text": "I take Xanax", "entities": [[7, 12, "drug"]]}                doccano: `label`, too
{"data": {"text": ...}, "annotations": [{"result": [...]}]}            Label Studio
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stackwise.errors import DataError, nearest
from stackwise.tasks.labelled.found import some
from stackwise.tasks.language.content import text_of
from stackwise.tasks.language.records import fields_of
from stackwise.tasks.tags.marks import SPANS, TAGS, TEXTS, TOKENS, field_of
from stackwise.tasks.tags.reading.spans import on_words, places_in
from stackwise.tasks.tags.schemes import Scheme, Span, scheme_of, spans_of
from stackwise.tasks.tags.sentences import Sentence, check_lengths
from stackwise.tasks.tags.words import words_of


@dataclass
class Read:
    """Records that were read.

    Attributes:
        sentences: a record each. scheme: of their tags. places: what each is called in a sentence.
        notes: what was made of places that are no words.
    """

    sentences: list[Sentence]
    scheme: Scheme
    places: list[str]
    notes: list[str] = field(default_factory=list)


def read_records(
    rows: Sequence[tuple[str, Any]], what: str, *, words: str | None, tags: str | None,
    tagged: bool, repair: bool,
) -> Read:  # fmt: skip
    """Read records.

    Args:
        rows: (where it stands, record). what: the source is called.
        words: the field of the words or of the text; else a usual one.
        tags: the field of the tags or of the places; likewise.
        tagged: whether tags are needed; else they are not read.

    Raises:
        DataError: a record cannot be used; the sentence says which.
    """
    if not rows:
        raise DataError(f"{what} holds no sentences")
    at = [place or f"record {number}" for number, (place, _) in enumerate(rows, start=1)]
    records = [_unwrapped(fields_of(row, place)) for place, (_, row) in zip(at, rows, strict=True)]
    named = list(dict.fromkeys(str(key) for row in records[:1000] for key in row))
    if words is not None and words not in named:
        raise DataError(f"{what} has no field {words!r}.{nearest(words, named)}")
    if tags is not None and tags not in named and tagged:
        raise DataError(f"{what} has no field {tags!r}.{nearest(tags, named)}")
    listed = words if words is not None else field_of(named, TOKENS)
    first = next((row[listed] for row in records if listed and row.get(listed) is not None), None)
    if listed is not None and isinstance(first, (list, tuple, np.ndarray)):
        return _of_words(records, at, listed, tags or field_of(named, TAGS), tagged, repair)
    text = words or field_of(named, TEXTS)
    if text is None:
        raise DataError(
            f"{what} does not say which of its fields is the text or the words (it has "
            f"{some(named, 8)}); name it with --field"
        )
    spans = tags or field_of([name for name in named if name != text], SPANS)
    if tagged and spans is None:
        raise DataError(
            f"{what} does not say which of its fields has the names (it has {some(named, 8)}); "
            "name it with --tags"
        )
    return _of_texts(records, at, text, spans, tagged)


def _unwrapped(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record of Label Studio as one with a text and places; any other as it is.

    Of several annotations the first that was not cancelled counts.
    """
    data, annotations = row.get("data"), row.get("annotations", row.get("completions"))
    if not isinstance(data, Mapping) or field_of(row, (*TEXTS, *TOKENS)) is not None:
        return row
    annotations = annotations if isinstance(annotations, list) else []
    done = [one for one in annotations if isinstance(one, Mapping) and not one.get("was_cancelled")]
    return {**data, "entities": done[0].get("result", []) if done else []}


def _of_words(
    records: Sequence[Mapping[str, Any]], at: Sequence[str], words: str, tags: str | None,
    tagged: bool, repair: bool,
) -> Read:  # fmt: skip
    if tagged and tags is None:
        raise DataError(f"{at[0]} has words and no tags; name their field with --tags")
    tokens, rows = [], []
    for place, row in zip(at, records, strict=True):
        listed = row.get(words)
        listed = [] if listed is None else list(listed)
        tokens.append([text_of(one, f"a word of {place}") for one in listed])
        if tagged:
            assert tags is not None
            given = row.get(tags)
            rows.append([_tag(one, place) for one in ([] if given is None else list(given))])
            check_lengths(tokens[-1], rows[-1], place)
    if not tagged:
        return Read([Sentence.of_tokens(one) for one in tokens], "BIO", list(at))
    scheme = scheme_of(rows)
    spans = [spans_of(r, scheme, place, repair=repair) for r, place in zip(rows, at, strict=True)]
    made = [Sentence.of_tokens(one, found) for one, found in zip(tokens, spans, strict=True)]
    return Read(made, scheme, list(at))


def _tag(value: Any, place: str) -> str:
    """A tag as text; 0 and 1 are tags, other numbers are not.

    Raises:
        DataError: it is a number, and nothing says of which tag.
    """
    if isinstance(value, str):
        return value
    if value in (0, 1):
        return str(int(value))
    raise DataError(
        f"a tag of {place} is {value!r}; a number stands for a tag only where the source names its "
        "classes, as `datasets` does"
    )


def _of_texts(
    records: Sequence[Mapping[str, Any]], at: Sequence[str], text: str, spans: str | None,
    tagged: bool,
) -> Read:  # fmt: skip
    made, moved, lost = [], 0, 0
    for place, row in zip(at, records, strict=True):
        read = row.get(text)
        read = "" if read is None else text_of(read, f"the {text!r} of {place}")
        found = words_of(read)
        names: list[Span] | None = None
        if tagged:
            assert spans is not None
            names, in_words, left = on_words(places_in(row.get(spans), read, place), found.places)
            moved, lost = moved + in_words, lost + left
        made.append(Sentence(found.tokens, read, found.places, names))
    notes = []
    if moved:
        notes.append(f"{moved:,} names begin or end inside of a word, which is taken whole")
    if lost:
        notes.append(f"{lost:,} names hold no word, or one of another name, and are left out")
    return Read(made, "BIO", list(at), notes)
