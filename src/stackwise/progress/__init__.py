"""Progress on the terminal, by rich: a line for a run; a bar and what runs now for a study.

All of it goes to stderr. Where that is no terminal, a plain line is written now and then: where
a phase or a run begins or ends, and in between after half a minute of silence.

An event is a dict. One of a fit has `phase`, `epoch`, `max_epochs`, perhaps `step`, `steps` and
`metrics`, and `seconds_left`: None where nobody can know it, and with `at_most` where the fit may
end sooner. A study adds `run` and a `state`: planned (its `runs`, before the first begins),
started, training, finished, failed. What follows the fits comes as `concluding` with a `note`,
and a `note` alone is a sentence to be read.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console

from stackwise.progress.board import board_on, console_of
from stackwise.progress.run import LiveRun, PlainRun
from stackwise.progress.study import LiveStudy, PlainStudy
from stackwise.progress.words import part_of, spoken

__all__ = ["OnEvent", "live", "live_study", "part_of", "spoken"]

OnEvent = Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def live(*, quiet: bool, console: Console | None = None) -> Iterator[OnEvent | None]:
    """Show the events of one run as a line that renews itself. Yields what takes the events."""
    shown = None if quiet else console_of(console)
    if shown is None:
        yield None
    elif not shown.is_interactive:
        yield PlainRun(shown)
    else:
        with board_on(shown) as board:
            yield LiveRun(board)


@contextlib.contextmanager
def live_study(*, quiet: bool, console: Console | None = None) -> Iterator[OnEvent | None]:
    """Show a study: how many runs are done, and what runs now. Yields what takes the events."""
    shown = None if quiet else console_of(console)
    if shown is None:
        yield None
    elif not shown.is_interactive:
        yield PlainStudy(shown)
    else:
        with board_on(shown) as board:
            yield LiveStudy(board)
