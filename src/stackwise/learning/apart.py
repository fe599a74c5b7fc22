"""Fits that nothing couples: in turn, on a pool, or on a Ray cluster, to the same bits.

Each fit has a session of its own, with its own checkpoints, its share of the time and its own
optimizer and random numbers. Which one runs when, and where, changes no number; the number of
threads may, and every place takes it from `threads`.

    class Members(FitsApart):
        def one(self, place): return self.learners[place].fit(self.X, self.y)

    for place, member in Members(names=["member 1", "member 2"], workers=2).results(): ...
"""

import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from stackwise import pool
from stackwise.cluster import connected
from stackwise.errors import TrainingError
from stackwise.learning.network import computing_with
from stackwise.progress import part_of
from stackwise.training.session import Session, current_session, session

LEAST_SHARE = 0.5
"""Seconds that a fit gets at least, however late it begins."""


@dataclass(kw_only=True)
class FitsApart:
    """Fits by number; called with one, it does that fit. It is pickled where processes do them.

    Attributes:
        names: what each fit is called. kind: what they are, a word.
        threads: that each fit computes with; None leaves it.
        workers: fits at a time, in processes; 1 is this process, one after another.
        on: "ray" or "ray://host:port" for a cluster, which decides how many run at once.
        folder: where fit number i keeps checkpoints, in `<kind>-<i>`; None keeps none.
        ends: the time (seconds since 1970) by which all must be done, or None.
    """

    names: list[str]
    threads: int | None = None
    workers: int = 1
    on: str | None = None
    folder: Path | None = None
    resume: bool = False
    ends: float | None = None
    kind: ClassVar[str] = "fit"

    def __post_init__(self) -> None:
        """Processes that run at once share the cores."""
        if self.threads is None and (self.workers > 1 or self.on):
            self.threads = max(1, torch.get_num_threads() // self.workers)

    def one(self, place: int) -> Any:
        """Do a fit, inside of its own session."""
        raise NotImplementedError

    def __call__(self, place: int) -> Any:
        """Do a fit in this process."""
        return self.fit(place, None)

    def fit(self, place: int, tell: Any) -> Any:
        """The same, and tell of its progress."""
        folder = None if self.folder is None else self.folder / f"{self.kind}-{place}"
        with (
            computing_with(self.threads),
            session(folder=folder, resume=self.resume, on_event=tell, time_limit=self.share(place)),
        ):
            return self.one(place)

    def share(self, place: int) -> float | None:
        """Seconds for a fit that begins now: an equal share of what is left for those to come."""
        if self.ends is None:
            return None
        rounds = -(-(len(self.names) - place) // self.workers)
        return max((self.ends - time.time()) / rounds, LEAST_SHARE)

    def results(self, time_limit: float | None = None) -> Generator[tuple[int, Any], None, None]:
        """(number, what came of it) of every fit, in the order of their ends.

        Args:
            time_limit: seconds for all of them; the open session may have a limit too.

        Raises:
            TrainingError: a fit's process died again and again.
            StudyError: there is no such cluster.
        """
        outer = current_session()
        # where a run keeps its checkpoints, and clears them once it is done
        self.folder = None if outer.folder is None else outer.folder / "checkpoint"
        self.resume = outer.resume
        limits = [s for s in (outer.seconds_left(), time_limit) if s is not None]
        self.ends = time.time() + min(limits) if limits else None
        outer.rewind(outer.fits, [])
        outer.fits += len(self.names)  # a fit that follows keeps the lines of these
        done = 0
        with contextlib.closing(self._done(outer)) as results:
            for place, found in results:
                done += 1
                if outer.on_event is not None:
                    note = f"{self.names[place]} is trained ({done} of {len(self.names)})"
                    last = {"epoch": 1, "max_epochs": 1, "done": done / len(self.names)}
                    outer.on_event(last | {"phase": self.names[place], "note": note})
                yield place, found

    def _done(self, outer: Session) -> Generator[tuple[int, Any], None, None]:
        count = len(self.names)
        if self.on is not None:
            yield from self._on_ray(self.on)
        elif self.workers == 1:
            for place in range(count):
                yield place, self.fit(place, self._told(outer, place))
        else:
            done = pool.side_by_side(
                self, count, workers=self.workers, threads=self.threads or 1,
                begins=lambda place: None,
            )  # fmt: skip
            with contextlib.closing(done):
                for place, result in done:
                    if isinstance(result, pool.Died):
                        raise TrainingError(f"{self.names[place]}: {result}")
                    yield place, result

    def _on_ray(self, address: str) -> Generator[tuple[int, Any], None, None]:
        ray = connected(address)
        cpus = self.threads or 1
        self.workers = max(1, int(ray.cluster_resources().get("CPU", 1) // cpus))
        remote = ray.remote(num_cpus=cpus, max_retries=-1)(_afar)
        held = ray.put(self)
        waiting = {remote.remote(held, place): place for place in range(len(self.names))}
        try:
            while waiting:
                (done,), _ = ray.wait(list(waiting), num_returns=1)
                yield waiting.pop(done), ray.get(done)
        except BaseException:
            for reference in waiting:
                ray.cancel(reference, force=True)
            raise

    def _told(self, outer: Session, place: int) -> Any:
        tell = outer.on_event
        if tell is None:
            return None
        return lambda event: tell(part_of(event, place, len(self.names), self.kind))


def _afar(fits: FitsApart, place: int) -> Any:
    """What a worker of a cluster does; a thread more or less would change the last bits."""
    torch.set_num_threads(fits.threads or 1)
    return fits(place)
