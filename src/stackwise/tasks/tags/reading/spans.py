"""Names by their places in a text, brought to its words.

    [0, 7, "drug"]                                          doccano
    {"start": 0, "end": 7, "label": "drug", "text": "..."}  and fields that say the same
    {"type": "labels", "value": {"start": 0, ...}}          Label Studio

Places count characters of the text, the end is behind the last one.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from stackwise.errors import DataError
from stackwise.tasks.tags.schemes import PLAIN, Span

STARTS, ENDS = ("start", "start_offset", "begin"), ("end", "end_offset")
KINDS = ("label", "labels", "type", "entity", "entity_group", "tag")

Place = tuple[int, int, str]


def places_in(value: Any, text: str, where: str) -> list[Place]:
    """The places that a field says: (start, end, type) each, in their order.

    Raises:
        DataError: one is none, lies beside the text, is not what it says to be, or overlaps
            another.
    """
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise DataError(
            f"the names of {where} are {str(value)[:40]!r}; give [start, end, type] of each"
        )
    found = [place for one in value if (place := _place(one, text, where)) is not None]
    found = sorted(set(found))
    for (start, end, _), (after, stop, _) in pairwise(found):
        if after < end:
            raise DataError(
                f"the names {start}:{end} ({text[start:end]!r}) and {after}:{stop} "
                f"({text[after:stop]!r}) of {where} overlap; a word has one tag"
            )
    return found


def on_words(
    found: Sequence[Place], places: Sequence[tuple[int, int]]
) -> tuple[list[Span], int, int]:
    """Names on the words of a text.

    Returns:
        the spans; how many of them began or ended inside of a word, which then is theirs whole;
        how many were left out, for they hold no word or share one with the name before.
    """
    spans: list[Span] = []
    moved = lost = 0
    for start, end, type_ in found:
        inside = [n for n, (begin, stop) in enumerate(places) if begin < end and stop > start]
        if not inside or (spans and inside[0] < spans[-1].end):
            lost += 1
            continue
        span = Span(inside[0], inside[-1] + 1, type_)
        bare = places[span.start][0] < start or places[span.end - 1][1] > end
        moved += bare
        spans.append(span)
    return spans, moved, lost


def _place(value: Any, text: str, where: str) -> Place | None:
    """One place; None of what marks no name, such as a relation of Label Studio."""
    said = None
    if isinstance(value, Mapping):
        if isinstance(value.get("value"), Mapping):
            value = value["value"]
        start, end = (_first(value, names) for names in (STARTS, ENDS))
        kind = _first(value, KINDS)
        if start is None and end is None:
            return None
        if isinstance(kind, (list, tuple)):
            kind = kind[0] if kind else None
        said = value.get("text")
    elif isinstance(value, (list, tuple)) and len(value) == 3:
        start, end, kind = value
    else:
        raise DataError(f"a name of {where} is {str(value)[:40]!r}; give [start, end, type]")
    if not all(isinstance(at, int) and not isinstance(at, bool) for at in (start, end)):
        raise DataError(f"a name of {where} lies from {start!r} to {end!r}; give whole numbers")
    assert isinstance(start, int) and isinstance(end, int)
    if not 0 <= start < end <= len(text):
        raise DataError(
            f"the name {start}:{end} of {where} lies beside its text, which has {len(text)} "
            "characters"
        )
    if isinstance(said, str) and said.strip() and said.strip() != text[start:end].strip():
        raise DataError(
            f"the name {start}:{end} of {where} is {text[start:end]!r} in the text, but says "
            f"{said!r}; places count characters"
        )
    return start, end, str(kind) if kind not in (None, "") else PLAIN


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((fields[name] for name in names if fields.get(name) is not None), None)
