"""How a command reads what it was given: knobs, options of the data, the table."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise.errors import KnobError

if TYPE_CHECKING:
    from stackwise.catalog import Card


def _sets(given: list[str] | None, option: str = "--set knob") -> dict[str, str]:
    """Read `--set name=value`, each name once."""
    values: dict[str, str] = {}
    for item in given or []:
        name, equals, text = item.partition("=")
        if not equals or not name:
            flag, _, what = option.partition(" ")
            raise KnobError(f"{flag} takes {what}=value, got {item!r}")
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


def _open_data(
    name: str, source: str, options: dict[str, Any], given: list[str] | None = None
) -> Any:
    """Load the source as the task `name`; `given` are the words of `--with`."""
    from stackwise.tasks import open_task

    return open_task(name, source, options | _sets(given, "--with option"))


def _task_of(of: "Card", asked: str | None) -> str:
    """The task that a method is asked to do: the one named, or the first that it serves."""
    from stackwise.errors import UnknownName

    if asked is None:
        return of.tasks[0] if of.tasks else "table"
    if asked not in of.tasks:
        raise UnknownName(f"{of.slug} serves {', '.join(of.tasks) or 'no task'}, not {asked}")
    return asked
