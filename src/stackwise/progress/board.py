"""Lines on a terminal that renew themselves, and the console that they are drawn on."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task
from rich.table import Column
from rich.text import Text

from stackwise import processes
from stackwise.progress.words import share_done, spoken, time_left
from stackwise.shown import sentence, shown


def console_of(given: Console | None) -> Console | None:
    """Where to write; None in all processes of a launcher but the first."""
    if not processes.is_first():
        return None
    # rich takes FORCE_COLOR for a terminal, which a log on a CI machine is not
    return given or Console(stderr=True, force_interactive=None if sys.stderr.isatty() else False)


def plain_line(console: Console, line: str) -> None:
    """A line that stays."""
    console.print(Text(sentence(line)), soft_wrap=True)


class _Clock(ProgressColumn):
    """The time that is left where `ends` (of time.monotonic) is known; else the time gone."""

    def render(self, task: Task) -> Text:
        ends = task.fields.get("ends")
        left = None if ends is None else ends - time.monotonic()
        words = time_left(left, bool(task.fields.get("at_most")))
        return Text(words or f"{spoken(task.elapsed or 0.0)} gone", no_wrap=True)


class _Said(ProgressColumn):
    """What runs, cut to the room that the bar and the clock leave."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def render(self, task: Task) -> Text:
        said = Text(shown(task.description), no_wrap=True)
        said.truncate(max(self.console.width - 39, 16), overflow="ellipsis")
        return said


@contextlib.contextmanager
def board_on(console: Console) -> Iterator[Progress]:
    """The lines that renew themselves; none of them stays behind."""
    with Progress(
        SpinnerColumn(), _Said(console), BarColumn(bar_width=10),
        _Clock(table_column=Column(no_wrap=True, min_width=23)),
        console=console, transient=True, refresh_per_second=4,
        redirect_stdout=False,  # rich would write it to stderr
    ) as board:  # fmt: skip
        yield board


def fields(event: dict[str, Any]) -> dict[str, Any]:
    """What a line of the board shows of a fit."""
    left, done = event.get("seconds_left"), share_done(event)
    return {
        "completed": done or 0.0,
        "total": None if done is None else 1.0,
        "ends": None if left is None else time.monotonic() + left,
        "at_most": bool(event.get("at_most")),
    }
