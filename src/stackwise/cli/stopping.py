"""Ctrl-C and SIGTERM while a command runs: it ends within seconds, with one sentence.

- A fit that trains has a handler of its own (`stackwise.training.interrupts`): it writes a
  checkpoint and stops there.
- All else is stopped by a KeyboardInterrupt, so that a file that is half written goes, workers end
  and a run is marked. Within an import it waits for the import's end: other packages take an
  exception there for a part that is not installed, or swallow it.
- What does not stop by itself (a long step, a library that never looks up, an exception that was
  swallowed) ends after `GRACE` seconds where it stands, or at once when it is asked again. That
  loses nothing: what is on the disk is whole at every moment.

The last is the work of a thread. Python tells it of a signal through a pipe at once, while the main
thread hears of it only between two steps of the interpreter.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from stackwise.processes import count

GRACE = 3.5  # seconds from a signal to the end of what does not stop by itself
LAUNCHED_GRACE = 20.0  # of several processes of a launcher, which first agree on a checkpoint
WRITING = 60.0  # seconds more for the checkpoint of an interrupted fit, if it is being written
TWICE = 0.5  # seconds after which a second signal is a second wish, and not the first one's echo
TRACKED = 0.5  # seconds in which a tracker of shared resources ends once its pipe is closed
SIGNALS = (signal.SIGINT, signal.SIGTERM)
CODE = 130
OVER = 0  # no signal has this number


class Stopping:
    """Whether a command was asked to stop.

    Attributes:
        sentence: what is said of a command that ends where it stands.
        raised: it was asked, and the main thread has been told by an exception.
    """

    def __init__(self) -> None:
        self.sentence = "Interrupted; repeat the command to begin again"
        self.raised = False
        self._deferred = self._over = False
        self._at = 0.0
        self._ended = threading.Event()
        self._one = threading.Lock()

    def over(self) -> None:
        """The work is done, nothing is left to stop."""
        self._over = True

    def asked(self, number: int, frame: Any) -> None:
        """The handler of both signals."""
        if self._over:
            return
        if self.raised:
            if time.monotonic() - self._at > TWICE:
                self.end_here()
        elif _importing(frame):
            self._deferred = True
        else:
            self.raised, self._at = True, time.monotonic()
            raise KeyboardInterrupt

    def swallowed(self, unraisable: Any) -> bool:
        """Whether an exception that Python could not raise was ours; it is raised again then."""
        if not (self.raised and unraisable.exc_type is KeyboardInterrupt):
            return False
        self.raised, self._deferred = False, True
        return True

    def watch(self, pipe: int, main: int) -> None:
        """Wait for a signal, then see to it that the process ends. Runs in a thread."""
        number = _next_of(pipe)
        began = time.monotonic()
        grace = GRACE if count() == 1 else LAUNCHED_GRACE
        while number is not None and not self._ended.wait(0.05):
            taken = time.monotonic() - began
            if taken > grace and (not _checkpoint_under_way() or taken > grace + WRITING):
                self.end_here()
            if self._deferred:
                self._deferred = False
                signal.pthread_kill(main, number)

    def end(self) -> None:
        """The main thread came to its end by itself."""
        self._ended.set()

    def end_here(self) -> None:
        """End the process, and all that it started, where it stands."""
        if self._over or not self._one.acquire(blocking=False):
            return
        end_children()
        end_trackers()
        renewed = b"\r\x1b[2K\x1b[?25h" if os.isatty(2) else b""  # a line of progress, the cursor
        with contextlib.suppress(OSError):
            os.write(2, renewed + f"Error: {self.sentence}\n".encode())
        os._exit(CODE)


@contextlib.contextmanager
def answered() -> Iterator[Stopping]:
    """Answer Ctrl-C and SIGTERM inside the block, as this module says."""
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    before = {number: signal.signal(number, stopping.asked) for number in SIGNALS}
    hook = sys.unraisablehook
    sys.unraisablehook = lambda one: None if stopping.swallowed(one) else hook(one)
    try:
        with _watched(stopping):
            yield stopping
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        # what Python does after its last line of ours can be stopped by nothing but a traceback
        atexit.unregister(_deaf)
        atexit.register(_deaf)


@contextlib.contextmanager
def _watched(stopping: Stopping) -> Iterator[None]:
    if os.name == "nt":  # Python wakes threads there through sockets alone
        yield
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    former = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    thread = threading.Thread(
        target=stopping.watch, args=(heard, threading.get_ident()), daemon=True
    )
    with contextlib.suppress(RuntimeError):  # no thread can be had: then without the last resort
        thread.start()
    try:
        yield
    finally:
        stopping.end()
        signal.set_wakeup_fd(former)
        # a process that was forked off may hold the pipe open: its end would not be noticed
        os.write(told, bytes([OVER]))
        if thread.ident is not None:
            thread.join()
        os.close(told)
        os.close(heard)


def end_children() -> None:
    """Kill the processes that this one started, and theirs.

    But for trackers of resources: they end by themselves, after they cleared what was shared.
    """
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if not any("resource_tracker" in word for word in child.cmdline()):
                    child.kill()


def end_trackers() -> None:
    """Let the trackers of shared resources end now: they would outlive this process by a little."""
    names = ("multiprocessing.resource_tracker", "joblib.externals.loky.backend.resource_tracker")
    for name in names:
        tracker: Any = getattr(sys.modules.get(name), "_resource_tracker", None)
        pipe, pid = getattr(tracker, "_fd", None), getattr(tracker, "_pid", None)
        if pipe is None or pid is None:
            continue
        with contextlib.suppress(OSError):  # it has ended, or is another process's
            os.close(pipe)
            tracker._fd = tracker._pid = None
            until = time.monotonic() + TRACKED
            while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < until:
                time.sleep(0.005)


def _next_of(pipe: int) -> int | None:
    """The next of our signals that the pipe tells of; None where the command is over."""
    while (told := os.read(pipe, 1)[0]) != OVER:
        if told in SIGNALS:
            return told
    return None


def _importing(frame: Any) -> bool:
    """Whether the main thread is within an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _checkpoint_under_way() -> bool:
    interrupts = sys.modules.get("stackwise.training.interrupts")
    return interrupts is not None and interrupts.writing.is_set()


def _deaf() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
