"""A session tells the loop where to keep checkpoints and whom to tell of progress.

A run opens one around `fit`, so that estimators keep scikit-learn's plain signatures. Outside a
session nothing is written.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise import processes
from stackwise.files import plain, read_lines, write_text

if TYPE_CHECKING:
    from stackwise.training.tracking.trackers import Tracker


@dataclass
class Session:
    """Where training writes and whom it tells.

    Attributes:
        folder: the run's folder, for `metrics.jsonl` and `checkpoint/<n>.safetensors`; or None.
        resume: go on from the checkpoints that are there.
        on_event: called with a dict an epoch, and between epochs about twice a second.
        time_limit: seconds, from the session's start, after which training ends.
        trackers: experiment trackers, told of each line of metrics.jsonl.
    """

    folder: Path | None = None
    resume: bool = False
    on_event: Callable[[dict[str, Any]], None] | None = None
    time_limit: float | None = None
    trackers: "Sequence[Tracker]" = ()
    started: float = field(default_factory=time.monotonic)
    fits: int = 0

    def next_fit(self) -> int:
        """The number of the next `train` call in this session; they always come in one order."""
        self.fits += 1
        return self.fits - 1

    def checkpoint(self, fit: int) -> Path | None:
        """The checkpoint file of fit number `fit`."""
        return None if self.folder is None else self.folder / "checkpoint" / f"{fit}.safetensors"

    @property
    def metrics(self) -> Path | None:
        """The file with a line an epoch."""
        return None if self.folder is None else self.folder / "metrics.jsonl"

    def log(self, line: dict[str, Any]) -> None:
        """Append one epoch's line to metrics.jsonl."""
        if self.metrics is not None:
            self.metrics.parent.mkdir(parents=True, exist_ok=True)
            with open(self.metrics, "a", encoding="utf-8") as file:
                file.write(json.dumps(plain(line)) + "\n")
        for tracker in self.trackers:
            tracker.log(line)

    def rewind(self, fit: int, history: list[dict[str, Any]]) -> None:
        """Make metrics.jsonl hold earlier fits' lines and `history`: what a checkpoint knows."""
        kept = []
        if self.metrics is not None and self.metrics.exists():
            known = read_lines(self.metrics, {"fit?": int})
            kept = [line for line in known if line.get("fit", 0) < fit]
            lines = [json.dumps(plain(line)) + "\n" for line in kept + history]
            write_text(self.metrics, "".join(lines))
        for tracker in self.trackers:
            tracker.rewind(kept + history)

    def seconds_left(self) -> float | None:
        """Seconds until the time limit, or None without one."""
        if self.time_limit is None:
            return None
        return self.started + self.time_limit - time.monotonic()

    @contextlib.contextmanager
    def within(self, seconds: float | None) -> Iterator[None]:
        """Have no more than so many seconds within the block; None leaves the limit as it is."""
        before = self.time_limit
        if before is not None and seconds is not None:
            self.time_limit = min(before, time.monotonic() - self.started + seconds)
        try:
            yield
        finally:
            self.time_limit = before


def count_aloud(phase: str, count: int) -> Callable[[int], None]:
    """What to call with how many of `count` were done since: it says so where somebody listens."""
    session, began, done = current_session(), time.monotonic(), 0

    def tell(more: int) -> None:
        nonlocal done
        done = min(done + more, count)
        if session.on_event is not None and done:
            gone = time.monotonic() - began
            left = math.ceil(gone / done * (count - done))
            session.on_event({"phase": phase, "step": done, "steps": count, "seconds": gone,
                              "seconds_left": left})  # fmt: skip

    return tell


_spared: ContextVar[float] = ContextVar("stackwise_spared", default=0.0)


def spare(seconds: float) -> None:
    """Say what something would have taken, had its result not been known from before."""
    _spared.set(_spared.get() + seconds)


def cost_clock() -> float:
    """Seconds that pass, those that were spared (`spare`) among them: between two looks, what the
    work in between costs one who does it alone.
    """
    return time.perf_counter() + _spared.get()


_current: ContextVar[Session | None] = ContextVar("stackwise_session", default=None)


def current_session() -> Session:
    """The session that is open, or one that writes nothing."""
    return _current.get() or Session()


@contextlib.contextmanager
def session(
    *,
    folder: Path | str | None = None,
    resume: bool = False,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    time_limit: float | None = None,
    trackers: "Sequence[Tracker]" = (),
) -> Iterator[Session]:
    """Open a session for the `train` calls inside the `with` block."""
    place = None if folder is None else Path(folder)
    opened = Session(place, resume, on_event, time_limit, trackers)
    if opened.metrics is not None and not resume and processes.is_first():
        opened.metrics.unlink(missing_ok=True)
    token = _current.set(opened)
    try:
        yield opened
    finally:
        _current.reset(token)
