"""The codes that the values of a category get."""

from typing import Any

import numpy as np
import pandas as pd

from stackwise.tasks.labelled import values
from stackwise.tasks.table.reading.columns import Column
from stackwise.tasks.table.reading.vocabulary import Vocabulary, buckets, parted


def category(
    name: str, series: pd.Series, detail: dict[str, Any], source: str, vocabulary: Vocabulary
) -> Column:
    """A column whose values each get a code; `source` is number or text."""
    codes, spellings = values.levels(series)
    counts = np.bincount(codes[codes >= 0], minlength=len(spellings))
    return Column(name, "category", detail | _coded(spellings, counts, source, vocabulary))


def _coded(
    spellings: list[str], counts: np.ndarray, source: str, vocabulary: Vocabulary
) -> dict[str, Any]:
    """What is kept of the values of a category, of which `counts` has the rows."""
    distinct = int((counts > 0).sum())
    found: dict[str, Any] = {"levels": [], "other": 0, "values": source}
    if vocabulary.hashes(distinct):
        count = vocabulary.hash_buckets
        assert count is not None
        filled = buckets((s for s, n in zip(spellings, counts, strict=True) if n), count)
        return found | {"buckets": count, "filled": np.unique(filled).tolist(),
                        "distinct": distinct}  # fmt: skip
    kept = [spellings[i] for i in vocabulary.keep(counts)]
    ordered = sorted(kept, key=_size if source == "number" else None)
    return found | {"levels": ordered, "other": distinct - len(kept)}


def several(name: str, series: pd.Series, vocabulary: Vocabulary) -> Column:
    """A column whose cells hold several values each."""
    separator = vocabulary.separators[name]
    codes, cells = values.levels(series.infer_objects())
    rows = np.bincount(codes[codes >= 0], minlength=len(cells))
    counts: dict[str, int] = {}
    slots = 0
    for cell, count in zip(cells, rows.tolist(), strict=True):
        inside = parted(cell, separator) if count else []
        slots = max(slots, len(inside))
        for value in inside:
            counts[value] = counts.get(value, 0) + count
    if not counts:
        return Column(name, "empty", {"why": "every value is missing"})
    found = _coded(list(counts), np.array(list(counts.values())), "text", vocabulary)
    detail = {"missing": int((codes < 0).sum()), "separator": separator, "slots": slots}
    return Column(name, "category", detail | found)


def _size(level: str) -> float | int:
    """The number that a level spells, whole ones exactly."""
    return int(level) if level.lstrip("-").isdigit() else float(level)
