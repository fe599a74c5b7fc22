"""How a command answers: lines and tables on stdout, or one JSON document."""

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from stackwise import processes
from stackwise.shown import cut, sentence, shown

MOST_OF_A_CELL = 300
"""Characters of a cell of a table."""


def _print(text: str = "") -> None:
    typer.echo(shown(text, lines=True))


def _emit(document: Any) -> None:
    from stackwise.files import plain

    typer.echo(json.dumps(plain(document), indent=1))


def _table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    first, *rest = columns
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column(first, no_wrap=True, overflow="fold")
    for name in rest:
        table.add_column(shown(name), overflow="fold")
    for row in rows:
        table.add_row(*(cut(shown(cell), MOST_OF_A_CELL) for cell in row))
    # a pipe has no width of its own: do not break lines there
    Console(
        width=None if sys.stdout.isatty() else 200, markup=False, emoji=False, highlight=False
    ).print(table)


def _width() -> int:
    """The columns that lines are broken at: the terminal's; a pipe gets those of a page."""
    return max(40, min(shutil.get_terminal_size((100, 24)).columns, 120))


def _item(name: str, *lines: str, indent: int = 2) -> None:
    """A name, and sentences about it below, broken between words alone."""
    _print(" " * indent + name)
    for line in lines:
        for row in textwrap.wrap(line, _width() - indent - 4, break_long_words=False,
                                 break_on_hyphens=False):  # fmt: skip
            _print(" " * (indent + 4) + row)


def _files(folder: Path, names: Iterable[str]) -> list[str]:
    return [str(folder / name) for name in names if (folder / name).exists()]


def _ends(document: dict[str, Any], lines: Iterable[str], as_json: bool) -> None:
    """End a command: its files and the next useful command, or one JSON document."""
    if not processes.is_first():
        return
    if as_json:
        _emit(document)
        return
    for line in lines:
        _print(line)
    if document.get("files"):
        _print("Wrote " + ", ".join(document["files"]))
    if document.get("next"):
        _print("Next: " + document["next"])


def _say_dry_run(as_json: bool, document: dict[str, Any], task: Any) -> None:
    from stackwise.protocols import Explains

    columns = task.columns if isinstance(task, Explains) else []
    if as_json:
        _emit(document | {"data": task.describe(), "columns": columns})
        return
    _print(f"Would write {document['out']}; nothing was run.")
    for note in task.notes:
        _print(f"  {sentence(str(note))}")
    if columns:
        _table(
            ("column", "kind", "what is done"),
            [(item["column"], item["kind"], item["done"]) for item in columns],
        )
