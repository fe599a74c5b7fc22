"""How tagged texts are known before they are read: by endings, the first lines, the first record.

A tsv file is a table by itself, unless its first lines are a word and a tag each; a text file is
words to be tagged, not tagged words: `--task tags` says that it is columns all the same.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from stackwise.marks import ending, first_entries, first_record, is_named, is_path

COLUMNS = (".conll", ".bio", ".iob", ".iob2", ".conll2003", ".iobes", ".bioes")
"""Files of a word and its tag a line, by their endings; `.tsv` and `.txt` may be such too."""
HEADER = ("token", "tokens", "word", "words")
"""Cells by which a first line is known as names of the columns."""
TOKENS = ("tokens", "words")
"""Fields that hold the words of a sentence, the first choice first."""
TAGS = ("ner_tags", "tags", "ner", "labels")
"""Fields that hold their tags, likewise."""
TEXTS = ("text", "sentence", "document", "content", "review", "message")
"""Fields that hold a text."""
SPANS = ("entities", "spans", "label", "labels", "annotations")
"""Fields that hold the places of its names."""
_TAG = re.compile(r"O|[BI]-\S+|0|1")


def recognises(source: Any) -> float:
    """A named set surely, and files by their endings; records with words and tags, or with a text
    and places in it; a folder of `datasets` with words and tags.
    """
    if not is_path(source):
        if isinstance(source, tuple) and len(source) == 2:
            return 1.0 if all(map(_is_rows, source)) else 0.0
        columns = set(map(str, getattr(source, "columns", ())))
        if {"sentence_id", "token", "tag"} <= columns:
            return 1.0
    elif is_named(source, "tags"):
        return 1.0
    elif ending(source) in COLUMNS:
        return 0.95
    elif ending(source) in (".tsv", ".tab", ".txt"):
        return 0.9 if _has_columns(Path(os.fspath(source))) else 0.0
    elif Path(os.fspath(source)).is_dir():
        path = Path(os.fspath(source))
        files, folders = first_entries(path)
        if {"dataset_dict.json", "state.json"} & {file.name for file in files}:
            return 0.95 if any(_says_tags(place) for place in (path, *folders)) else 0.0
    return _of_record(first_record(source))


def field_of(names: Iterable[str], known: tuple[str, ...]) -> str | None:
    """The first of the known fields that is among the names."""
    listed = list(names)
    return next((name for name in known if name in listed), None)


def _of_record(record: Mapping[str, Any]) -> float:
    words, tags = field_of(record, TOKENS), field_of(record, TAGS)
    if words and tags and isinstance(record[words], list) and isinstance(record[tags], list):
        return 0.95
    if isinstance(record.get("data"), dict) and "annotations" in record:
        return 0.9
    text, spans = field_of(record, TEXTS), field_of(record, SPANS)
    listed = spans is not None and isinstance(record[spans], list)
    return 0.9 if text and listed and all(map(_is_place, record[spans])) else 0.0  # type: ignore[index]


def _is_place(value: Any) -> bool:
    """Whether this may be the place of a name: two numbers and a type, or fields of such."""
    if isinstance(value, Mapping):
        return True
    return isinstance(value, (list, tuple)) and len(value) == 3 and isinstance(value[2], str)


def _is_rows(rows: Any) -> bool:
    """Whether these are lists of words, or of tags."""
    if not isinstance(rows, (list, tuple)) or not rows:
        return False
    return isinstance(rows[0], (list, tuple)) and all(isinstance(one, str) for one in rows[0])


def _has_columns(path: Path) -> bool:
    """Whether the first lines of a file are a word and a tag each."""
    if not path.is_file():
        return False
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        lines = [line.split() for line in islice(file, 50)]
    if lines and lines[0] and lines[0][0].lower() in HEADER:
        lines = lines[1:]
    told = [cells for cells in lines if cells and cells[0] != "-DOCSTART-"]
    tagged = [len(cells) > 1 and bool(_TAG.fullmatch(cells[-1])) for cells in told]
    return len(told) > 1 and all(tagged)


def _says_tags(folder: Path) -> bool:
    """Whether `datasets` saved words and tags here."""
    try:
        features = json.loads((folder / "dataset_info.json").read_bytes())["features"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return field_of(features, TOKENS) is not None and field_of(features, TAGS) is not None
