"""A run as a line that renews itself, or as lines in a log."""

import time
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from stackwise.progress.board import fields, plain_line
from stackwise.progress.words import after, said, spoken, time_left
from stackwise.shown import sentence

SILENCE = 30.0  # seconds after which a plain line says where a fit is


class LiveRun:
    """One line: a spinner from the start, the phase and its bar once there is one."""

    def __init__(self, board: Progress) -> None:
        self.board = board
        self.line = board.add_task("begins", total=None)
        self.last: dict[str, Any] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        if event.get("state") == "note":
            self.board.console.print(Text(sentence(event["note"])))
        else:
            self.last = after(self.last, event)
            self.board.update(self.line, description=said(self.last), **fields(event))


class PlainRun:
    """A line where a phase begins, and one after each silence."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.phase, self.last = None, time.monotonic()

    def __call__(self, event: dict[str, Any]) -> None:
        phase, now = event.get("note") or event.get("phase"), time.monotonic()
        if phase != self.phase or now - self.last >= SILENCE:
            self.phase, self.last = phase, now
            line = said(event)
            if "seconds" in event:
                left = time_left(event.get("seconds_left"), bool(event.get("at_most")))
                line += f"  {spoken(event['seconds'])} gone" + (left and f", {left}")
            plain_line(self.console, line)
