"""How a command reads what it was given: knobs, the task of its data, where to write."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from stackwise.errors import KnobError, RunError
from stackwise.files import read_json

DATA = {"data?": ({"task?": str, "options?": (dict, None)}, None)}
"""What run.json says of the data that a run learned from."""


def sets(given: list[str] | None, option: str = "--set knob") -> dict[str, str]:
    """Read `--set name=value`, each name once."""
    values: dict[str, str] = {}
    for item in given or []:
        name, equals, text = item.partition("=")
        if not equals or not name:
            flag, _, what = option.partition(" ")
            raise KnobError(f"{flag} takes {what}=value, got {item!r}")
        values[name.strip()] = text.strip()
    return values


def run_folder(reference: str | Path) -> Path:
    """The folder of a run; of a study, that of what it keeps. What cannot be read is no study."""
    from stackwise.runs import kept_folder

    try:
        return kept_folder(reference)
    except RunError:
        return Path(reference)


def recorded(reference: str | Path) -> dict[str, object]:
    """What a run's folder records, or a study's winner; of `MODEL+RUN` the last that names data.

    Empty where there is no such thing.
    """
    from stackwise.runs import split_reference

    base, changes = split_reference(str(reference))
    found: dict[str, object] = {}
    for folder in (*changes, base):
        try:
            record = dict(read_json(run_folder(folder) / "run.json", DATA))
        except RunError:
            continue
        found = record if record.get("data") or not found.get("data") else found
    return found


def recorded_task(reference: str | Path) -> str | None:
    """The task that a run learned from, or None where no data are recorded."""
    return task_in(recorded(reference))


def task_in(record: Mapping[str, object]) -> str | None:
    """The task that a run's record says it learned from, or None where it says none."""
    from stackwise.runs.record import task_of

    data = record.get("data")
    return task_of(data) if isinstance(data, dict) else None


def options_in(record: Mapping[str, object], known: Collection[str]) -> dict[str, Any]:
    """How a run's record says its data were read, as far as `known`: new data are read alike."""
    data = record.get("data")
    options = data.get("options") if isinstance(data, dict) else None
    if not isinstance(options, dict):
        return {}
    return {name: value for name, value in options.items() if name in known}


def command() -> str:
    """The command line as it was typed."""
    import shlex

    return shlex.join(["stackwise", *sys.argv[1:]])


def default_out(kind: str, slug: str, source: str) -> Path:
    """Where a command writes that was told nothing."""
    stem = Path(source).stem or "data"
    return Path("probes" if kind == "probe" else "runs") / f"{slug}-{stem}"
