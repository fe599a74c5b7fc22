"""How a command answers: lines and tables on stdout, or one JSON document."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from stackwise import processes


def _print(text: str = "") -> None:
    typer.echo(text)


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
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # a pipe has no width of its own: do not break lines there
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table)


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
    if as_json:
        _emit(document | {"data": task.describe(), "columns": task.columns})
        return
    _print(f"Would write {document['out']}; nothing was run.")
    for note in task.notes:
        _print(f"  {note}")
    _table(
        ("column", "kind", "what is done"),
        [(item["column"], item["kind"], item["done"]) for item in task.columns],
    )
