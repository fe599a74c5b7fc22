"""Live progress on the terminal: one line for a run, a table for a study, on stderr."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

OnEvent = Callable[[dict[str, Any]], None]


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    whole = int(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def _metrics(event: dict[str, Any]) -> str:
    values = event.get("metrics") or {}
    return "  ".join(f"{name} {value:.4g}" for name, value in list(values.items())[:3] if value)


@contextlib.contextmanager
def live(*, quiet: bool) -> Iterator[OnEvent | None]:
    """Show the events of one run as a line that renews itself. Yields what takes the events."""
    if quiet:
        yield None
        return
    terminal = sys.stderr.isatty()
    last = {"epoch": -1}

    def show(event: dict[str, Any]) -> None:
        epoch = event.get("epoch", 0)
        line = (
            f"{event.get('phase', '')} epoch {epoch}/{event.get('max_epochs', '?')}  "
            f"{_metrics(event)}  {_clock(event.get('seconds'))} gone, "
            f"at most {_clock(event.get('seconds_left'))} left"
        )
        if terminal:
            sys.stderr.write("\r\x1b[2K" + line[:150])
        elif epoch != last["epoch"] and (epoch < 3 or epoch % 10 == 0):
            sys.stderr.write(line + "\n")
        last["epoch"] = epoch
        sys.stderr.flush()

    try:
        yield show
    finally:
        if terminal and last["epoch"] >= 0:
            sys.stderr.write("\n")


@contextlib.contextmanager
def live_study(*, quiet: bool) -> Iterator[OnEvent | None]:
    """Show a study as a table with a row a run. Yields what takes the events."""
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        yield _plain_line
        return
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    rows: dict[str, dict[str, Any]] = {}

    def table() -> Table:
        shown = Table("run", "state", "epoch", "metrics", "time", "left", box=None, pad_edge=False)
        for name, event in list(rows.items())[-18:]:
            epoch = f"{event['epoch']}/{event.get('max_epochs', '?')}" if "epoch" in event else ""
            shown.add_row(
                name,
                str(event.get("problem") or event["state"]),
                epoch,
                _metrics(event),
                _clock(event.get("seconds")),
                _clock(event.get("seconds_left")) if event["state"] == "training" else "",
            )
        total = next(iter(rows.values()))["total"] if rows else 0
        done = sum(event["state"] in ("finished", "failed") for event in rows.values())
        shown.caption = f"{done} of {total} runs"
        return shown

    with Live(console=Console(stderr=True), get_renderable=table, refresh_per_second=4) as screen:

        def show(event: dict[str, Any]) -> None:
            if event["state"] == "note":
                screen.console.print(event["note"])
                return
            rows[event["run"]] = rows.get(event["run"], {}) | event
            screen.refresh()

        yield show


def _plain_line(event: dict[str, Any]) -> None:
    if event["state"] == "note":
        sys.stderr.write(event["note"] + "\n")
        return
    if event["state"] != "training":
        problem = f": {event['problem']}" if event.get("problem") else ""
        place = f"{event['index'] + 1}/{event['total']}"
        sys.stderr.write(f"{place} {event['run']} {event['state']}{problem}\n")
        sys.stderr.flush()
