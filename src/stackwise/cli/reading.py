"""How a command reads what it was given: knobs, options of the data, the table."""

import sys
from pathlib import Path
from typing import Any

from stackwise.errors import KnobError


def _sets(given: list[str] | None) -> dict[str, str]:
    """Read `--set name=value`, each name once."""
    values: dict[str, str] = {}
    for item in given or []:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise KnobError(f"--set takes knob=value, got {item!r}")
        values[name.strip()] = text.strip()
    return values


def _data_options(**given: Any) -> dict[str, Any]:
    """The options of the data that were given; a share of the rows is a number, else a file."""
    options = {name: value for name, value in given.items() if value not in (None, [], ())}
    for part in ("validation", "test"):
        if part in options:
            try:
                options[part] = float(options[part])
            except ValueError:
                continue
    return options


def _command() -> str:
    import shlex

    return shlex.join(["stackwise", *sys.argv[1:]])


def _default_out(kind: str, slug: str, source: str) -> Path:
    stem = Path(source).stem or "data"
    return Path("probes" if kind == "probe" else "runs") / f"{slug}-{stem}"


def _open_table(source: str, target: str | None, options: dict[str, Any]) -> Any:
    from stackwise.tasks.table.task import TableTask

    return TableTask.load(source, target=target, **options)
