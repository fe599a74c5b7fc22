"""What a user should know of how the columns were read: one sentence a thing."""

from collections.abc import Mapping, Sequence

from stackwise.tasks.labelled import values
from stackwise.tasks.table.reading.columns import Column


def said_of(columns: Sequence[Column], words: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Sentences about columns that were dropped, and about what reading them decided.

    Args:
        words: by column, the words that were taken as missing when the table was read.
    """
    used = [column for column in columns if column.used]
    notes = [
        f"column {column.name!r} was dropped: {column.detail['why']}"
        for column in columns
        if not column.used
    ]
    notes += [
        f"column {column.name!r}: {column.detail['infinite']:,} infinite, taken as missing"
        for column in used
        if column.detail.get("infinite")
    ]
    notes += _nothing(used, words) + _words_as_categories(used)
    for column in used:
        if column.detail.get("unreadable"):
            notes.append(
                f"column {column.name!r}: {column.detail['unreadable']:,} values are no "
                f"{column.kind}s and are taken as missing"
            )
        if column.detail.get("open"):
            sign = "decimal" if column.detail["decimal"] == "," else "thousands"
            notes.append(
                f"column {column.name!r}: the comma of {column.detail['open']} was read as a "
                f"{sign} sign, which the column leaves open"
            )
        if column.detail.get("ambiguous"):
            notes.append(
                f"column {column.name!r}: dates were read as {column.detail['format']}; day and "
                "month could be the other way round"
            )
    return notes


def _nothing(columns: Sequence[Column], words: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Which words were taken as missing, in one sentence."""
    where: dict[str, list[str]] = {}
    for column in columns:
        found = {*words.get(column.name, {}), *column.detail.get("nothing", {})}
        for word in sorted(found - {""}):
            where.setdefault(word, []).append(column.name)
    if not where:
        return []
    parts = [f"{word!r} in {_some(names)}" for word, names in where.items()]
    return [f"taken as missing: {'; '.join(parts)}"]


def _words_as_categories(columns: Sequence[Column]) -> list[str]:
    """Which words that often stand for nothing are categories of their own, in one sentence."""
    where: dict[str, list[str]] = {}
    for column in columns:
        if column.kind == "category" and column.detail.get("values") == "text":
            for level in column.detail["levels"]:
                if level.lower() in values.MISSING_WORDS:
                    where.setdefault(level, []).append(column.name)
    if not where:
        return []
    parts = [f"{word!r} in {_some(names)}" for word, names in where.items()]
    return [f"a category of its own, not a missing value: {'; '.join(parts)}"]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 4} more columns" if len(names) > 4 else ""
    return ", ".join(repr(name) for name in names[:4]) + more
