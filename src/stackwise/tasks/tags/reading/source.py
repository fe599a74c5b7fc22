"""Find the sentences of a source, of whichever kind it is.

notes.conll, .bio, .iob, .tsv           a word and its tag a line
notes.jsonl, .json, .parquet            records with words and tags, or a text and places
a folder of `datasets`, hf://owner/name
notes.txt                               plain lines: to be tagged, or by a list of names
a named set (`stackwise data`)
in Python a list of records, a frame, or (sentences, tags)
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stackwise.errors import DataError, nearest
from stackwise.tasks.labelled.found import PARTS, Found, objects
from stackwise.tasks.language.encoding import plain_text
from stackwise.tasks.language.records import (
    is_records,
    is_saved_dataset,
    opened_dataset,
    records_of,
)
from stackwise.tasks.tags.marks import COLUMNS, recognises
from stackwise.tasks.tags.names import labels_from_names
from stackwise.tasks.tags.reading.columns import read_columns
from stackwise.tasks.tags.reading.records import read_records
from stackwise.tasks.tags.schemes import Scheme, scheme_of, spans_of
from stackwise.tasks.tags.sentences import Sentence, check_sentences, check_tagged
from stackwise.tasks.tags.words import words_of

HUB = "hf://"
DOCUMENT = "document"
"""The column of the numbers of documents, where a source has several."""


@dataclass(frozen=True)
class How:
    """What a user says of reading.

    Attributes:
        field, tags: the field or column of the words or the text, and that of tags or places.
        repair: read tags that cannot follow each other as names that begin or end there.
        names: a file of names, or a list, by which texts are tagged. label: their type.
        tagged: whether tags are needed.
    """

    field: str | None = None
    tags: str | None = None
    repair: bool = False
    names: Any = None
    label: str = "name"
    tagged: bool = True


@dataclass
class TaggedFound(Found):
    """The sentences of a source; `labels` holds the names of each, `scheme` says how."""

    scheme: Scheme = "BIO"
    usual: Mapping[str, Any] | None = None


def find_tagged(source: Any, how: How) -> TaggedFound:
    """The sentences of a source.

    Raises:
        DataError: it cannot be read; the sentence says where.
    """
    if how.names is not None and how.tagged:
        return _by_names(source, how)
    if isinstance(source, tuple) and len(source) == 2:
        sentences, spans, scheme = check_tagged(*source)
        made = [Sentence.of_tokens(*one) for one in zip(sentences, spans, strict=True)]
        return _found(made, [f"sentence {n + 1}" for n in range(len(made))], scheme)
    if not isinstance(source, (str, os.PathLike)):
        return _of_object(source, how)
    name = os.fspath(source)
    path = Path(name)
    if name.startswith(HUB) or is_saved_dataset(path):
        return _of_dataset(name, how)
    if path.is_file():
        lines = path.suffix.lower()
        if lines in COLUMNS or (lines in (".tsv", ".tab", ".txt") and recognises(path)):
            return _of_columns(path, how)
        if is_records(path):
            return _of_records(list(records_of(path)), name, how)
        if not how.tagged:
            return _of_lines(path)
        raise DataError(
            f"{path} is no source of tagged words by its name; give columns (.conll), JSON lines, "
            "or plain text with --names"
        )
    from stackwise import data

    known = {entry.name for entry in data.names("tags")}
    if name in known:
        return _named(name, how)
    if path.is_dir():
        raise DataError(f"{path} is a folder that `datasets` did not save; name a file in it")
    raise DataError(f"there is no file or set of tagged words {name!r}.{nearest(name, known)}")


def _found(
    made: Sequence[Sentence], places: list[str], scheme: Scheme, *, notes: Sequence[str] = (),
    columns: Mapping[str, Any] | None = None, parts: Sequence[str] | None = None,
) -> TaggedFound:  # fmt: skip
    """Sentences, those without a word left out."""
    kept = [row for row, one in enumerate(made) if one.tokens]
    said = list(notes)
    if len(kept) < len(made):
        said.append(f"{len(made) - len(kept):,} empty sentences are left out")
    frame = pd.DataFrame(dict(columns or {}), index=pd.RangeIndex(len(made)))
    return TaggedFound(
        [made[row] for row in kept], [places[row] for row in kept],
        labels=objects(made[row].spans for row in kept), notes=said, scheme=scheme,
        columns=frame.iloc[kept].reset_index(drop=True),
        parts=None if parts is None else objects(parts[row] for row in kept),
    )  # fmt: skip


def untagged(source: Any, how: How) -> list[Sentence]:
    """The sentences of a source that are to be tagged, the empty ones too, in their order.

    Args:
        source: as for `find_tagged`, with tags or without; plain text, each line of which is one;
            or a list of texts.
    """
    given = isinstance(source, (list, tuple)) and source
    if given and all(isinstance(one, str) for one in source):
        return [_of_text(one) for one in source]
    if isinstance(source, tuple) and len(source) == 2:
        return [Sentence.of_tokens(tokens) for tokens in check_sentences(source[0])]
    if given and not isinstance(source[0], Mapping):
        return [Sentence.of_tokens(tokens) for tokens in check_sentences(source)]
    return list(find_tagged(source, how).samples)


def _of_text(text: str) -> Sentence:
    found = words_of(text)
    return Sentence(found.tokens, text, found.places)


def _of_lines(path: Path) -> TaggedFound:
    """The lines of a text."""
    lines = plain_text(path).split("\n")
    while lines and not lines[-1]:
        lines.pop()
    made = [_of_text(line) for line in lines]
    return TaggedFound(made, [f"line {n + 1}" for n in range(len(made))], labels=None)


def _of_columns(path: Path, how: How) -> TaggedFound:
    rows = read_columns(path, token=how.field, tag=how.tags, tagged=how.tagged)
    places = [f"sentence {n} of {path} (line {row.line})" for n, row in enumerate(rows, start=1)]
    scheme = scheme_of(row.tags for row in rows)
    made = []
    for row, place in zip(rows, places, strict=True):
        spans = spans_of(row.tags, scheme, place, repair=how.repair) if how.tagged else None
        made.append(Sentence.of_tokens(row.tokens, spans))
    documents = [row.document for row in rows]
    columns = {DOCUMENT: documents} if documents[-1] else {}
    return _found(made, places, scheme, columns=columns)


def _of_records(
    rows: Sequence[tuple[str, Any]], what: str, how: How, parts: Sequence[str] | None = None
) -> TaggedFound:
    read = read_records(
        rows, what, words=how.field, tags=how.tags, tagged=how.tagged, repair=how.repair
    )
    if not how.tagged:
        return TaggedFound(read.sentences, read.places, labels=None)
    plain = (str, int, float, bool, type(None))
    named = dict.fromkeys(str(key) for _, row in rows[:1000] for key in row)
    columns = {
        name: objects(row.get(name) for _, row in rows) for name in named
        if all(isinstance(row.get(name), plain) for _, row in rows)
    }  # fmt: skip
    return _found(
        read.sentences, read.places, read.scheme, notes=read.notes, columns=columns, parts=parts
    )


def _of_object(source: Any, how: How) -> TaggedFound:
    columns = set(map(str, getattr(source, "columns", ())))
    if {"sentence_id", "token", "tag"} <= columns:
        sentences, spans, scheme = check_tagged(source, None)
        made = [Sentence.of_tokens(*one) for one in zip(sentences, spans, strict=True)]
        return _found(made, [f"sentence {n + 1}" for n in range(len(made))], scheme)
    return _of_records(list(records_of(source)), f"this {type(source).__name__}", how)


def _of_dataset(name: str, how: How) -> TaggedFound:
    """A data set of `datasets`: tags by the names of their classes, its parts as parts."""
    hub = name.startswith(HUB)
    loaded = opened_dataset(name.removeprefix(HUB).removeprefix("datasets/"), hub=hub)
    import datasets

    parts = {None: loaded} if isinstance(loaded, datasets.Dataset) else dict(loaded)
    of_part = [PARTS.get(str(part).lower()) for part in parts]
    if len(parts) > 1 and None in of_part:
        strange = next(part for part in parts if str(part).lower() not in PARTS)
        raise DataError(f"{name} has a part {strange!r}, which is no train, validation or test")
    rows: list[tuple[str, Any]] = []
    told: list[str] = []
    for (part, held), known in zip(parts.items(), of_part, strict=True):
        classes = {
            column: inner.names for column, of in held.features.items()
            if isinstance(inner := getattr(of, "feature", None), datasets.ClassLabel)
        }  # fmt: skip
        for number, row in enumerate(held, start=1):
            for column, names in classes.items():
                row[column] = [names[code] for code in row[column]]
            rows.append((f"row {number} of {part or name}", row))
            told.append(known or "")
    return _of_records(rows, name, how, told if None not in of_part else None)


def _named(name: str, how: How) -> TaggedFound:
    """A set by its name: records, or texts and the names by which they are tagged."""
    from stackwise import data

    opened, usual = data.tags(name)
    if isinstance(opened, Mapping):
        names, label, common = (opened[key] for key in ("names", "label", "common"))
        records, dropped = labels_from_names(opened["texts"], names, label=label, common=common)
        found = _of_records([("", row) for row in records], name, how)
        found.notes.append(
            "tagged by a list of names, so that a name which it lacks counts as none; left out of "
            f"it as ordinary words: {', '.join(dropped) or 'none'}"
        )
    else:
        found = _of_records([("", row) for row in opened], name, how)
    found.usual = usual
    return found


def _by_names(source: Any, how: How) -> TaggedFound:
    """Any texts, tagged by a list of names."""
    names = how.names
    if isinstance(names, (str, os.PathLike)):
        if not Path(names).is_file():
            raise DataError(f"there is no file of names {names}; give one with a name on each line")
        names = [line for line in plain_text(Path(names)).split("\n") if line.strip()]
    plain = How(field=how.field, tagged=False)
    texts = [one.text for one in untagged(source, plain)]
    records, dropped = labels_from_names(texts, names, label=how.label)
    found = _of_records([("", row) for row in records], "this source", How())
    if dropped:
        found.notes.append(f"names that are left out as ordinary words: {', '.join(dropped[:20])}")
    return found
