"""Values that are not what they look like: sentinels, units in numbers, codes, a heavy tail."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from stackwise.errors import DataError
from stackwise.tasks.labelled import numerals, values
from stackwise.tasks.table.features import by_column
from stackwise.tasks.table.reading.columns import Column

SENTINELS = tuple(
    sign * number
    for number in (99, 999, 9999, 99999, 999999, 888, 8888, 99.9, 999.9, 9999.9, 999.99)
    for sign in (1, -1)
)
"""Numbers that people write where there is none."""

SENTINEL_SHARE = 0.01
HEAVY = 0.5
"""Share of a target's squared deviation in a hundredth of the rows that makes its tail heavy."""

_UNIT = re.compile(r"[+-]?\d[\d.,]*\s*[A-Za-zµμ°²³/%]{1,6}")
_CODE_NAME = re.compile(
    r"(?:.*[_\s.-])?(?:zip|zip_?code|postal_?code|post_?code|postal|plz|fips|naics|sku|code)",
    re.IGNORECASE,
)


def of_columns(X: pd.DataFrame, columns: Sequence[Column]) -> list[str]:
    """A sentence for each column with odd values.

    Args:
        X: a sample of the training rows.
    """
    found: list[str] = []
    for column in columns:
        if column.kind == "number":
            try:
                known = by_column.numbers(column, X[column.name])
            except DataError:
                continue
            known = known[np.isfinite(known)]
            found += _sentinels(f"column {column.name!r}", known) or _codes(column.name, known)
        elif column.kind in ("category", "text", "identifier"):
            found += _units(column, X[column.name])
    return found


def of_target(y: np.ndarray, target: str) -> list[str]:
    """A sentence for each oddity of a number to predict."""
    found = list(_sentinels(f"target {target!r}", y))
    if len(y) < 100:
        return found
    scale = float(np.abs(y).max()) or 1.0
    squares = np.sort((y / scale - np.mean(y / scale)) ** 2)[::-1]
    few = max(3, len(y) // 100)
    share = float(squares[:few].sum() / squares.sum()) if squares.sum() > 0 else 0.0
    if share > HEAVY and not found:
        found.append(
            f"target {target!r} is so skewed that {few:,} of {len(y):,} training rows make "
            f"{share:.0%} of its squared deviation: they decide the rmse; look at mae too, or "
            "predict its logarithm"
        )
    return found


def _sentinels(what: str, known: np.ndarray) -> list[str]:
    """A value such as 999 or -999 in at least a hundredth of the rows, far from all others."""
    if len(known) < 30:
        return []
    candidates = [value for value in SENTINELS if (known == value).mean() >= SENTINEL_SHARE]
    candidates = [value for value in candidates if (known == value).sum() >= 3]
    rest = known[~np.isin(known, candidates)]
    if not candidates or len(np.unique(rest)) < 3:
        return []
    low, high = float(rest.min()), float(rest.max())
    odd = [
        value for value in candidates
        if value > high + (high - low) or value < low - (high - low) or value < 0 <= low
    ]  # fmt: skip
    if not odd:
        return []
    listed = " and ".join(f"{value:g}" for value in odd)
    rows = float(np.isin(known, odd).mean())
    return [
        f"{what} is {listed} in {rows:.1%} of the rows while all others lie between {low:g} and "
        f"{high:g}: leave the cell empty if that means that there is no value"
    ]


def _codes(name: str, known: np.ndarray) -> list[str]:
    """Whole numbers of one width that name places or things, such as postcodes."""
    if len(known) < 30 or not np.equal(np.floor(known), known).all() or known.min() < 1000:
        return []
    width = len(str(int(known.max())))
    distinct = len(np.unique(known))
    if len(str(int(known.min()))) != width or distinct < 20:
        return []
    named = width >= 4 and _CODE_NAME.fullmatch(name) is not None
    first = 10 ** (width - 1)
    covers = (known.max() - known.min()) / (9 * first)
    if not named and not (width >= 5 and covers > 0.7 and _even(known, first)):
        return []
    return [
        f"column {name!r} holds whole numbers of {width} digits with {distinct:,} different values "
        "and is used as an amount: give it as text if they are codes"
    ]


def _even(known: np.ndarray, first: int) -> bool:
    """Whether no leading digit has more than a fifth or so of the rows, as it has for amounts."""
    return float(np.bincount((known // first).astype(int)).max()) < 0.22 * len(known)


def _units(column: Column, series: pd.Series) -> list[str]:
    """Numbers of which some carry a unit, so that the column is no column of numbers."""
    codes, spellings = values.levels(series)
    counts = np.bincount(codes[codes >= 0], minlength=len(spellings))
    shown = dict(_with_units(spellings))
    if not shown or not counts.sum():
        return []
    total = float(counts.sum())
    units = sum(counts[place] for place in shown) / total
    plain = ~np.isnan(numerals.numbers(spellings)) | ~np.isnan(numerals.numbers(spellings, ","))
    numbers = float(counts[plain].sum()) / total
    half = units >= 0.1 and numbers >= 0.1 and units + numbers >= 0.9
    if not half and not (units >= 0.9 and len(shown) > 20):
        return []
    example = next(iter(shown.values()))
    what = "is no column of numbers" if column.used else "was dropped"
    return [
        f"column {column.name!r} holds numbers with units in {units:.0%} of its values, such as "
        f"{example!r}, and {what}: write numbers alone, in one unit"
    ]


def _with_units(spellings: Sequence[str]) -> Iterator[tuple[int, str]]:
    for place, text in enumerate(spellings):
        if _UNIT.fullmatch(text) and np.isnan(numerals.number(text)):
            yield place, text
