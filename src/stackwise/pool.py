"""A pool of processes on this machine, which replaces a worker that dies and does its work again.

loky's processes, which need no guard in the user's script. Its executor is not used: it breaks with
the first worker that dies, as the kernel ends one for memory, and takes the work of the others with
it.

A worker ends by itself where its parent is gone, and leaves Ctrl-C to it.
"""

import contextlib
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

MOST_DEATHS = 3
"""So often a piece of work may take its worker with it before it is given up."""
LEAVE = 2.0  # seconds in which workers that are stopped may write a checkpoint
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Died:
    """What stands for the result of work that was given up.

    Attributes:
        code: how its last process ended: an exit code, or minus the number of a signal.
    """

    code: int | None

    def __str__(self) -> str:
        how = f"exit code {self.code}"
        if self.code is not None and self.code < 0:
            how = signal.Signals(-self.code).name
        if how == "SIGKILL":
            how += ", as the kernel ends one that takes too much memory"
        return (
            f"its process died {MOST_DEATHS} times (at last of {how}); use fewer --workers, or "
            "settings that take less memory"
        )


@dataclass
class _Worker:
    """A process, the pipe to it, and the number of what it does now."""

    process: Any
    pipe: Connection
    place: int | None = None

    def give(self, place: int) -> None:
        self.place = place
        with contextlib.suppress(OSError):  # it is dead, which taking its answer will find
            self.pipe.send(place)

    def answer(self) -> Any:
        """What it gave back.

        Raises:
            EOFError, OSError: it is dead.
        """
        return self.pipe.recv()


def side_by_side(
    work: Callable[[int], Any],
    count: int,
    *,
    workers: int,
    threads: int,
    begins: Callable[[int], None],
) -> Generator[tuple[int, Any], None, None]:
    """Do `work(0)` to `work(count - 1)` in processes.

    Args:
        work: is pickled, once a process.
        threads: that a process computes with, where `work` does not say it.
        begins: is called with a number as its work is handed out; again where it is done again.

    Yields:
        (number, what came of it) in the order of the ends; `Died` where it took its process with it
        `MOST_DEATHS` times.
    """
    waiting, deaths = deque(range(count)), Counter[int]()
    pool: list[_Worker] = []
    try:
        while waiting or pool:
            idle = sum(worker.place is None for worker in pool)
            for _ in range(min(len(waiting) - idle, workers - len(pool))):
                pool.append(_started(work, threads))
            for worker in pool:
                if worker.place is None and waiting:
                    begins(waiting[0])
                    worker.give(waiting.popleft())
            busy = [worker for worker in pool if worker.place is not None]
            _end([worker for worker in pool if worker.place is None])  # nothing is left for them
            pool = busy
            answering = wait([worker.pipe for worker in busy]) if busy else []
            for worker in [one for one in busy if one.pipe in answering]:
                place = worker.place
                assert place is not None
                try:
                    found = worker.answer()
                except (EOFError, OSError):
                    pool.remove(worker)
                    _end([worker])
                    deaths[place] += 1
                    if deaths[place] < MOST_DEATHS:
                        waiting.appendleft(place)
                        continue
                    found = Died(worker.process.exitcode)
                worker.place = None
                yield place, found
    finally:
        _end(pool)


def _started(work: Callable[[int], Any], threads: int) -> _Worker:
    from joblib.externals.loky.backend import get_context

    here, there = get_context("loky").Pipe()
    own = {name: str(threads) for name in THREAD_VARIABLES if name not in os.environ}
    process = get_context("loky").Process(target=_serve, args=(there, os.getpid(), work), env=own)
    with _unheard():  # until it has its own handlers
        process.start()
    there.close()
    return _Worker(process, here)


def _end(pool: list[_Worker]) -> None:
    """Stop workers: idle ones at once, others may write a checkpoint before."""
    for worker in pool:
        worker.pipe.close()
        if worker.place is None:
            _kill(worker.process)
        else:
            worker.process.terminate()
    until = time.monotonic() + LEAVE
    for worker in pool:
        worker.process.join(max(until - time.monotonic(), 0.0))
        if worker.process.exitcode is None:
            _kill(worker.process)
            worker.process.join()


def _kill(process: Any) -> None:
    """SIGKILL, which loky's processes cannot send by themselves."""
    if os.name == "nt":
        process.terminate()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Let no signal that stops reach what is started inside of the block."""
    if os.name == "nt":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, parent: int, work: Callable[[int], Any]) -> None:
    """What a worker does."""
    from stackwise.errors import Interrupted

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if os.name != "nt":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    threading.Thread(target=_end_without, args=(parent,), daemon=True).start()
    with contextlib.suppress(EOFError, OSError, Interrupted, KeyboardInterrupt):
        while True:
            place = pipe.recv()
            pipe.send(work(place))
    os._exit(0)


def _end_without(parent: int) -> None:
    """End this process soon after its parent: nobody would take what it found."""
    import psutil

    while psutil.pid_exists(parent) and (os.name == "nt" or os.getppid() == parent):
        time.sleep(0.5)
    os._exit(1)
