"""Numbers and durations as a reader wants them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

NONE = "–"
"""For a number or an interval that is not there."""


def number_text(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits, thousands apart; a dash for none."""
    if value is None:
        return NONE
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.1f}"
    return f"{value:.{digits}g}"


def interval_text(row: Mapping[str, Any], text: Callable[[float], str] = number_text) -> str:
    """`low` and `high` of a row; a dash where there are none or where they read alike."""
    if row["low"] is None or text(row["low"]) == text(row["high"]):
        return NONE
    return f"{text(row['low'])} to {text(row['high'])}"


def seconds_text(value: float | None) -> str:
    """A duration with the unit that fits it."""
    if value is None:
        return NONE
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def value_text(value: Any) -> str:
    """A finding as a reader wants it: numbers rounded, lists and tables as words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, (int, float)):
        return number_text(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {value_text(item)}" for name, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(value_text(item) for item in value)
    return str(value)
