"""Read `.ts` files, the form in which aeon and sktime keep series.

    @problemName Engines
    @timeStamps false
    @classLabel true good worn          or   @targetLabel true
    @data
    0.1,0.2,?,0.4:1,1,2,2:good          values of a channel, then the next, then the label

`?` (and NaN) is a value that was not measured. Series may differ in length, and channels of one
series too: shorter ones end earlier. With `@timeStamps true` a value is `(moment,value)`; the
values are taken in their order, and moments are not used.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stackwise.errors import DataError
from stackwise.tasks.language.encoding import plain_text
from stackwise.tasks.series.series import without_end

STAMPED = re.compile(r"\(([^()]*),([^(),]*)\)")
MISSING = ("?", "nan", "NaN", "NAN", "")


@dataclass
class Read:
    """What a `.ts` file holds.

    Attributes:
        values: n arrays (C, length). labels: n words, or None where the file has none.
        numbers: the labels are numbers to predict. notes: sentences about how it was read.
    """

    values: list[np.ndarray]
    labels: list[Any] | None
    numbers: bool
    notes: list[str] = field(default_factory=list)


def read_ts(path: Path) -> Read:
    """Read a file.

    Raises:
        DataError: it is none of this form; the sentence says in which line.
    """
    header, rows = _parts(path)
    classes = header.get("classlabel", "false").lower().startswith("true")
    numbers = header.get("targetlabel", "false").lower().startswith("true")
    stamped = header.get("timestamps", "false").lower().startswith("true")
    labelled = classes or numbers
    values, labels, channels = [], [], 0
    for line, text in rows:
        cells = _stamped(text) if stamped else text.split(":")
        if labelled:
            labels.append(_label(path, line, cells.pop(), numbers))
        if not cells:
            raise DataError(f"{path}, line {line}: there is no series before the label")
        channels = channels or len(cells)
        if len(cells) != channels:
            raise DataError(
                f"{path}, line {line}: this series has {len(cells)} channels and those before "
                f"have {channels}"
            )
        values.append(_series(path, line, cells))
    if not values:
        raise DataError(f"{path} holds no series behind @data")
    _check(path, header, values)
    _check_labels(path, header, labels if classes else [], [line for line, _ in rows])
    notes = ["moments of the file are not used: values follow each other evenly"] * stamped
    return Read(values, labels if labelled else None, numbers, notes)


def _parts(path: Path) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """The header by lower-case names, and the lines behind `@data` with their numbers."""
    header: dict[str, str] = {}
    rows: list[tuple[int, str]] = []
    behind = False
    for number, line in enumerate(plain_text(path).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if behind:
            rows.append((number, text))
        elif text.startswith("@"):
            name, _, value = text[1:].partition(" ")
            behind = name.lower() == "data"
            header[name.lower()] = value.strip()
        else:
            raise DataError(
                f"{path}, line {number}: a .ts file begins with lines of @, up to @data"
            )
    if not behind:
        raise DataError(f"{path} has no line @data, behind which the series of a .ts file stand")
    return header, rows


def _stamped(text: str) -> list[str]:
    """Cells of `(moment,value)` pairs as cells of values; what is no pair stays."""
    cells = re.split(r":(?![^()]*\))", text)
    return [
        ",".join(value for _, value in STAMPED.findall(cell)) if cell.startswith("(") else cell
        for cell in cells
    ]


def _label(path: Path, line: int, text: str, numbers: bool) -> Any:
    word = text.strip()
    if word in MISSING:
        return None
    if not numbers:
        return word
    try:
        return float(word)
    except ValueError:
        raise DataError(f"{path}, line {line}: the target {word[:40]!r} is no number") from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _series(path: Path, line: int, cells: list[str]) -> np.ndarray:
    read = []
    for cell in cells:
        words = [word.strip() for word in cell.split(",")]
        try:
            read.append([np.nan if word in MISSING else float(word) for word in words])
        except ValueError:
            odd = next(word for word in words if word not in MISSING and not _is_number(word))
            raise DataError(
                f"{path}, line {line}: {odd[:40]!r} is no number; write ? where there is none"
            ) from None
    made = np.full((len(read), max(map(len, read))), np.nan)
    for place, channel in enumerate(read):
        made[place, : len(channel)] = channel
    if np.isinf(made).any():
        raise DataError(f"{path}, line {line}: a value is infinite; write ? where there is none")
    return without_end(made)


def _check(path: Path, header: dict[str, str], values: list[np.ndarray]) -> None:
    """Hold the file to what its header says."""
    said = header.get("dimensions") or header.get("dimension")
    if said and said.isdigit() and int(said) != len(values[0]):
        raise DataError(
            f"{path} says @dimensions {said} and its series have {len(values[0])} channels"
        )


def _check_labels(path: Path, header: dict[str, str], labels: list, lines: list[int]) -> None:
    """Hold labels to the classes that the header lists, where it lists them."""
    known = header.get("classlabel", "").split()[1:]
    for label, line in zip(labels, lines, strict=False):
        if known and label is not None and label not in known:
            raise DataError(
                f"{path}, line {line}: the label {label[:40]!r} is none of those behind "
                f"@classLabel: {', '.join(known[:8])}"
            )
