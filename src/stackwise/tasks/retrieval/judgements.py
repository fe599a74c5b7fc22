"""Read judgements: which document answers which query, and how well.

query-id  corpus-id  score          BEIR, tab-separated, with this header
query 0 document score              TREC, four columns without a header
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stackwise.errors import DataError
from stackwise.tasks.language.encoding import plain_text

PARTS = {"train": "train", "dev": "validation", "validation": "validation", "test": "test"}
"""What a file of BEIR's folder `qrels` is for, by its name."""
Judged = dict[str, dict[str, int]]


def read_judgements(source: Any) -> tuple[Judged, dict[str, str]]:
    """The judgements of a file, a folder of such, triples or {query: {document: score}}.

    Returns:
        Scores by query and document, and by query its part, where the files of a folder say it.

    Raises:
        DataError: a line cannot be read; the sentence names it.
    """
    if isinstance(source, Mapping):
        found = {str(q): {str(d): int(s) for d, s in own.items()} for q, own in source.items()}
        return {query: own for query, own in found.items() if own}, {}
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            return _of_folder(path)
        if not path.is_file():
            raise DataError(f"there is no file of judgements {path}")
        return _gathered(_lines(path), str(path)), {}
    triples = ((f"judgement {place}", tuple(one)) for place, one in enumerate(source, start=1))
    return _gathered(triples, "the judgements"), {}


def _of_folder(folder: Path) -> tuple[Judged, dict[str, str]]:
    files = {PARTS[p.stem]: p for p in sorted(folder.glob("*.tsv")) if p.stem in PARTS}
    if not files:
        raise DataError(f"{folder} holds none of train.tsv, dev.tsv and test.tsv")
    judged: Judged = {}
    parts: dict[str, str] = {}
    for part, path in files.items():
        for query, own in _gathered(_lines(path), str(path)).items():
            if parts.setdefault(query, part) != part:
                raise DataError(f"the query {query!r} is in two parts of {folder}")
            judged[query] = own
    return judged, parts if len(files) > 1 else {}


def _gathered(triples: Iterator[tuple[str, tuple[Any, ...]]], where: str) -> Judged:
    found: Judged = {}
    for place, one in triples:
        if len(one) == 4:
            one = (one[0], one[2], one[3])
        if len(one) != 3:
            raise DataError(f"{place} has {len(one)} values; give query, document and score")
        query, document, score = one
        try:
            value = int(score)
        except (TypeError, ValueError):
            raise DataError(f"{place} has the score {score!r}, no whole number") from None
        own = found.setdefault(str(query), {})
        if own.setdefault(str(document), value) != value:
            raise DataError(f"{where} judges document {document!r} for query {query!r} twice")
    return found


def _lines(path: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for number, line in enumerate(plain_text(path).split("\n"), start=1):
        values = tuple(line.split("\t") if "\t" in line else line.split())
        header = number == 1 and values and not _is_number(values[-1])
        if any(values) and not header:
            yield f"line {number} of {path}", tuple(value.strip() for value in values)


def _is_number(text: str) -> bool:
    return text.strip().lstrip("+-").isdigit()
