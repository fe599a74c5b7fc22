"""Ctrl-C and SIGTERM ask a fit to stop; it stops where a checkpoint can be written."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from stackwise.errors import Interrupted

writing = threading.Event()
"""Set while the checkpoint of an interrupted fit is written: who ends the process waits for it."""


@dataclass
class StopRequest:
    """Whether someone asked the fit to stop."""

    asked: bool = False


@contextmanager
def being_written() -> Iterator[None]:
    """Inside the block the checkpoint of an interrupted fit is written."""
    writing.set()
    try:
        yield
    finally:
        writing.clear()


@contextmanager
def stop_signals(active: bool) -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM inside the block into a request.

    A second Ctrl-C does not wait. A request that comes when nothing is left to stop raises
    `Interrupted` at the end of the block, so that it is never swallowed.

    Args:
        active: False leaves the signals alone, as does any thread but the main one, where Python
            lets no handler be set.
    """
    request = StopRequest()
    if not active or threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: Any) -> None:
        if request.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            # None: a handler that was not set from Python and cannot be set again from there
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if request.asked:
        raise Interrupted("Interrupted at the end of training; the checkpoint is written")
