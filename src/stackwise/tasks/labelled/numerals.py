"""Numbers as people write them: `$1,200.50`, `1.234,5`, `(3.5)`, `7 %`.

A comma can part thousands or begin a fraction. What the whole column admits decides; where both
readings fit each of its values (`2,063`), what the rest of the table shows does, and the column
says that it was open.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_CURRENCY = r"(?:US\$|R\$|[$€£¥₹₩₽]|USD|EUR|GBP|JPY|CHF|CNY|INR|CAD|AUD|kr|zł)"
_GROUPS = {".": r"[,'’ \u00a0\u202f]", ",": r"[.'’ \u00a0\u202f]"}


def _number_pattern(decimal: str) -> re.Pattern[str]:
    point = re.escape(decimal)
    whole = rf"(?:[1-9]\d{{0,2}}(?:{_GROUPS[decimal]}\d{{3}})+|\d+)"  # 0,506 has no thousands
    digits = rf"(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?"
    return re.compile(
        rf"(?P<open>\()?\s*(?P<sign>[+\-−])?\s*{_CURRENCY}?\s*(?P<after>[+\-−])?\s*"
        rf"(?P<digits>{digits})\s*(?:{_CURRENCY}|%)?\s*(?(open)\))"
    )


_NUMBER = {decimal: _number_pattern(decimal) for decimal in (".", ",")}
_LEADING_ZERO = re.compile(r"0\d+")
_DIGITS = re.compile(r"[+-]?[0-9]{1,400}")
EXACT = 2**53
"""Above this, float64 has no place for each whole number."""
_MARKS = {sign: re.compile(rf"{_CURRENCY}|%|\d{group}\d{{3}}") for sign, group in _GROUPS.items()}


class NumberStyle(NamedTuple):
    """How a column of texts writes its numbers.

    `sign` is the decimal sign and `numbers` (n,) float64 what the texts are then, NaN where one is
    none. `sure`: the texts leave no other sign. `open`: both signs read them, to other numbers, and
    the table does not write points.
    """

    sign: str
    numbers: np.ndarray
    sure: bool
    open: bool


def number(text: str, decimal: str = ".") -> float:
    """Read one number: `1,234.50`, `$ 12`, `(3.5)`, `-4 €`, `7 %` (as 7), `inf`. NaN if it is none.

    Args:
        decimal: `.`, or `,` for `1.234,50`.
    """
    match = _NUMBER[decimal].fullmatch(text.strip())
    if match is None:
        word = text.strip().lower().lstrip("+-")
        if word not in ("inf", "infinity"):
            return math.nan
        return -math.inf if text.strip().startswith("-") else math.inf
    digits = re.sub(_GROUPS[decimal], "", match["digits"]).replace(decimal, ".")
    negative = (
        match["open"] or "-" in (sign := (match["sign"] or match["after"] or "")) or ("−" in sign)
    )
    return -float(digits) if negative else float(digits)


def numbers(texts: Sequence[str], decimal: str = ".") -> np.ndarray:
    """Read many spellings as float64; NaN where one is no number."""
    return np.array([number(text, decimal) for text in texts], dtype=np.float64)


def number_style(texts: Sequence[str], default: str | None = None) -> NumberStyle | None:
    """The style in which most of the texts are numbers; None where they are none.

    Codes such as `007` are no numbers, since their zeros would be lost, and neither are whole ones
    of so many digits that float64 would change them. The two signs are tried on a
    sample first, so that a column of names costs little.

    Args:
        default: the decimal sign where the texts admit both.
    """
    sample = texts[:: max(1, len(texts) // 200)]
    if not sample:
        return None
    read = {decimal: np.isnan(numbers(sample, decimal)).mean() for decimal in (".", ",")}
    if min(read.values()) > 0.5 or any(_is_a_name(text) for text in texts):
        return None
    found = {decimal: numbers(texts, decimal) for decimal in (".", ",")}
    lost = {decimal: int(np.isnan(found[decimal]).sum()) for decimal in found}
    if lost["."] != lost[","]:
        sign = min(lost, key=lambda decimal: lost[decimal])
        return NumberStyle(sign, found[sign], sure=True, open=False)
    either = not np.array_equal(found["."], found[","], equal_nan=True)
    sign = default or "." if either else "."
    return NumberStyle(sign, found[sign], sure=False, open=either and default != ".")


def _is_a_name(text: str) -> bool:
    """Whether digits would not survive as a number."""
    if _LEADING_ZERO.fullmatch(text):
        return True
    return len(text) > 15 and bool(_DIGITS.fullmatch(text)) and abs(int(text)) > EXACT


def marks(texts: Sequence[str], decimal: str = ".") -> list[str]:
    """The currency signs, percent signs and thousands separators that appear."""
    seen = {mark for text in texts[:1000] for mark in _MARKS[decimal].findall(text)}
    shown = {"thousands separators" if mark[0].isdigit() else mark for mark in seen}
    return sorted(shown)
