"""How a table is known before it is read."""

from typing import Any

from stackwise.marks import LINES, ending, holds, is_named

PLAIN = (".csv", ".tsv", ".tab", ".parquet", ".pq", ".arrow", ".feather", ".ipc")


def recognises(source: Any) -> float:
    """A named table, a frame or a matrix surely; a csv, parquet or arrow file; lines of JSON where
    nobody knows them better; a text file hardly. Arrays of more dimensions are no table.
    """
    matrix = getattr(source, "ndim", 0) in (1, 2)
    if is_named(source, "table") or hasattr(source, "columns") or matrix:
        return 1.0
    found = ending(source)
    if found in PLAIN or str(source).startswith("hf://"):
        return 0.6
    if found in LINES:
        return 0.3
    if found == ".txt":
        return 0.1
    return 0.5 if holds(source, PLAIN) else 0.2 if holds(source, LINES) else 0.0
