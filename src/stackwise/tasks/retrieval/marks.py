"""How a collection to search in is known before it is read."""

import os
from pathlib import Path
from typing import Any

from stackwise.marks import ending, first_record, is_named, is_path

CORPUS, QUERIES = "corpus.jsonl", "queries.jsonl"
JUDGEMENTS = ("qrels.tsv", "qrels")
"""A file, or a folder of `train.tsv`, `dev.tsv` and `test.tsv`."""


def recognises(source: Any) -> float:
    """A named collection and BEIR's folder surely; documents with an `_id` most likely; a folder of
    texts or a csv only where nothing else is said of it.
    """
    if is_named(source, "retrieval"):
        return 1.0
    if is_path(source) and Path(os.fspath(source)).is_dir():
        folder = Path(os.fspath(source))
        if (folder / CORPUS).is_file():
            return 1.0 if (folder / QUERIES).is_file() else 0.9
        return 0.0
    first = first_record(source)
    if {"_id", "text"} <= set(first) and "label" not in first:
        return 0.9
    return 0.8 if ending(source) and Path(os.fspath(source)).name == CORPUS else 0.0
