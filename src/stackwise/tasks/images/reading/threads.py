"""Decode many pictures in threads, in their order.

pillow lets go of Python's lock while it decodes and resizes. Work is handed out in runs of
pictures, since a hand-over costs as much as a tiny picture.
"""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import joblib

MOST_THREADS = 16
T = TypeVar("T")
R = TypeVar("R")


def threads() -> int:
    """How many decode side by side: the cores that this process may use, at most 16."""
    return int(min(joblib.cpu_count(), MOST_THREADS))


def runs(count: int, longest: int = 64) -> Iterator[slice]:
    """0..count in pieces, small enough that every thread has some."""
    length = max(1, min(longest, -(-count // (2 * threads()))))
    for start in range(0, count, length):
        yield slice(start, min(start + length, count))


def begin(work: Callable[[slice], None], count: int) -> list[Future[None]]:
    """Start `work` on each piece of 0..count."""
    return [_pool(os.getpid()).submit(work, piece) for piece in runs(count)]


def finish(started: list[Future[None]]) -> None:
    """Wait for what was started; an error in one piece calls the others off and is raised."""
    try:
        for one in started:
            one.result()
    except BaseException:
        call_off(started)
        raise


def call_off(started: Iterable[Future[None]]) -> None:
    """Cancel what has not begun."""
    for one in started:
        one.cancel()


def ahead(
    start: Callable[[T], tuple[list[Future[None]], R]], given: Iterable[T], most: int
) -> Iterator[R]:
    """The result of each that is given, in order, with at most `most` begun before they are asked.

    Args:
        start: begins one: what to wait for, and what it fills.
    """
    waiting: deque[tuple[list[Future[None]], R]] = deque()
    try:
        for one in given:
            waiting.append(start(one))
            if len(waiting) > most:
                started, filled = waiting.popleft()
                finish(started)
                yield filled
        while waiting:
            started, filled = waiting.popleft()
            finish(started)
            yield filled
    finally:
        for started, _ in waiting:
            call_off(started)


@functools.lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """One pool a process: threads do not survive a fork."""
    return ThreadPoolExecutor(threads(), thread_name_prefix="pictures")
