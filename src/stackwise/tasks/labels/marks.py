"""How labelled texts are known before they are read: by names, the first record, the first folders.

A csv or a parquet file is a table by itself; `--task labels` says that it is texts.
"""

import json
import os
from pathlib import Path
from typing import Any

from stackwise.marks import first_entries, first_record, is_named, is_path

ENDINGS = (".txt", ".md", ".text", ".rst")
"""Files that are a text each, in the folder of their class."""
TEXT = "text"
"""What a sample is called."""
TEXTS = ("text", "sentence", "review", "document", "content", "message", "comment")
"""Fields that hold the text where nobody says which, the first choice first."""
LABELS = ("label", "class", "category", "topic", "intent", "sentiment", "subject", "rating")
"""Fields that hold the label, likewise."""


def recognises(source: Any) -> float:
    """A named set, and texts beside their labels, surely; a folder a class with text files in them
    and a folder of `datasets` with texts and classes; lines of JSON that have a text and a label.
    """
    if not is_path(source):
        pair = isinstance(source, tuple) and len(source) == 2 and not isinstance(source[0], str)
        listed = pair and isinstance(source[0], (list, tuple)) and len(source[0]) > 0
        if listed and all(isinstance(one, str) for one in source[0]):
            return 1.0
    elif is_named(source, "labels"):
        return 1.0
    elif (path := Path(os.fspath(source))).is_dir():
        found = _folder(path)
        if found:
            return found
    record = first_record(source)
    text, label = field_of(record, TEXTS), field_of(record, LABELS)
    if text is None or label is None:
        return 0.0
    told = isinstance(record[text], str) and isinstance(record[label], (str, int))
    return 0.75 if told else 0.0


def field_of(names: Any, known: tuple[str, ...]) -> str | None:
    """The first of the known fields that is among the names."""
    return next((name for name in known if name in names), None)


def _folder(path: Path) -> float:
    files, folders = first_entries(path)
    names = [file.name for file in files]
    if {"dataset_dict.json", "state.json"} & set(names):
        return 0.9 if any(_says_classes(place) for place in (path, *folders)) else 0.0
    if any(map(_is_text, files)):
        return 0.0  # texts without a class: a corpus
    below = [first_entries(folder) for folder in sorted(folders)]
    deeper = [first_entries(folder)[0] for _, inside in below for folder in sorted(inside)[:5]]
    held = [any(_is_text(file) for file in found) for found, _ in below]
    within = any(_is_text(file) for found in deeper for file in found)
    return 0.85 if sum(held) > 1 or within else 0.0


def _is_text(file: Path) -> bool:
    return file.name.lower().endswith(ENDINGS)


def _says_classes(folder: Path) -> bool:
    """Whether `datasets` saved texts and classes here."""
    try:
        features = json.loads((folder / "dataset_info.json").read_bytes())["features"]
        kinds = [(of.get("_type"), of.get("dtype")) for of in features.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    texts = any(kind == "Value" and dtype in ("string", "large_string") for kind, dtype in kinds)
    named = field_of(features, TEXTS) and field_of(features, LABELS)
    return texts and (any(kind == "ClassLabel" for kind, _ in kinds) or bool(named))
