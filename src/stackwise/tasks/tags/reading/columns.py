"""Files of columns, as those of CoNLL: a word and its tag a line, a blank line between sentences.

    -DOCSTART- -X- O O          a document begins; its sentences stay in one part

    EU      NNP  B-NP  B-ORG    the first column is the word, the last one its tag
    rejects VBZ  B-VP  O

Columns are parted by tabs where a line has one, else by spaces. Lines that begin with "# " and are
no columns are comments.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stackwise.errors import DataError
from stackwise.tasks.language.encoding import plain_text
from stackwise.tasks.tags.marks import HEADER

DOCUMENT = "-DOCSTART-"


@dataclass
class Lines:
    """A sentence of a file.

    Attributes:
        tokens, tags: of each word. tags is empty where the file has none.
        document: the number of its document, from 0. line: where it begins.
    """

    document: int
    line: int
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


def read_columns(
    path: Path, *, token: str | None = None, tag: str | None = None, tagged: bool = True
) -> list[Lines]:
    """The sentences of a file.

    Args:
        token, tag: the columns of word and tag, by number from 1 or, where a first line names
            them, by name; else the first and the last.
        tagged: whether tags are needed; else they are not read.

    Raises:
        DataError: a line has no such column, or there is no sentence; the sentence names the line.
    """
    rows = list(_rows(path))
    named: list[str] = []
    if rows and rows[0][1] and rows[0][1][0].lower() in HEADER:
        named = [cell.lower() for cell in rows.pop(0)[1]]
    word, last = _place(token, named, 0, path), _place(tag, named, -1, path)
    found: list[Lines] = []
    document, now = -1, None
    for number, cells in rows:
        if not cells or cells[0] == DOCUMENT:
            now = None
            document += bool(cells)
            continue
        if now is None:
            now = Lines(max(document, 0), number)
            found.append(now)
        if word >= len(cells) or (tagged and max(last, 1) >= len(cells)):
            needed = "a word and a tag" if tagged else f"{word + 1} columns"
            raise DataError(
                f"line {number} of {path} has {len(cells)} column{'s' * (len(cells) != 1)}, and "
                f"{needed} are needed; a blank line parts sentences"
            )
        now.tokens.append(cells[word])
        if tagged:
            now.tags.append(cells[last])
    if not found:
        raise DataError(f"{path} holds no sentences: a word and its tag on each line")
    return found


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines' numbers and cells; none of a blank line."""
    lines = plain_text(path).split("\n")
    tabs = any("\t" in line for line in lines)
    for number, line in enumerate(lines, start=1):
        bare = line.strip(" \t")
        if tabs:
            cells = [cell.strip(" ") for cell in bare.split("\t")] if bare else []
            if bare.startswith("# ") and len(cells) == 1:
                continue
            if len(cells) == 1 and bare.startswith(DOCUMENT):
                cells = [DOCUMENT]
        else:
            cells = re.split(r" +", bare) if bare else []
            if len(cells) > 2 and cells[0] == "#" and cells[2] in ("=", ":"):
                continue
        yield number, cells


def _place(wanted: str | None, named: list[str], usual: int, path: Path) -> int:
    """A column by its number or its name."""
    if wanted is None:
        return usual
    if wanted.lower() in named:
        return named.index(wanted.lower())
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted) - 1
    known = f" (it has {', '.join(named)})" if named else ""
    raise DataError(f"{path} has no column {wanted!r}{known}; name it by its number, from 1")
