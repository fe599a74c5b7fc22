"""One scheduler for all studies: in turn, on a local pool of processes, or on a Ray cluster.

Where a job runs changes no number. What is left of the time is shared by the jobs that are left
of the same seed, by their weights; what one leaves over goes to the others. A later seed has what
its earlier ones leave, and is not begun where that is nothing. Jobs go side by side only as far as
their memory allows. A worker or a node that dies takes no finished work with it: its job is done
again from its last checkpoint (on a cluster all nodes must see the study's folder).
"""

import contextlib
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from stackwise import pool
from stackwise.cluster import connected
from stackwise.errors import StorageError, StudyError
from stackwise.studies.jobs import NOT_BEGUN, Job, OnEvent, Shared, attempt

PROCESS_BYTES = 700 * 2**20
"""What a process takes before it has seen data: Python, torch and scikit-learn."""
COPIES = 6
"""How many times a run holds its table: as it came, as features, as tensors, in batches."""
LOCK_SECONDS = 60
"""How long a job that is done again waits for a dying process to leave its folder."""


@dataclass(frozen=True)
class Schedule:
    """Where and how jobs run.

    Attributes:
        workers: processes side by side.
        cluster: None, `ray` for the cluster of this machine, or `ray://host:port`.
        threads: that each job computes with; a cluster reserves as many CPUs.
        deadline: when the study should end (`time.monotonic()`, which no change of the clock
            moves and all processes of a machine share), or None.
        longest: seconds that a job may take where there is a deadline, or None.
    """

    workers: int = 1
    cluster: str | None = None
    threads: int | None = None
    deadline: float | None = None
    longest: float | None = None

    def run(
        self, jobs: Sequence[Job], shared: Shared, on_event: OnEvent | None = None
    ) -> dict[str, str]:
        """Do all jobs. Returns why some failed, by name."""
        if not jobs:
            return {}
        told = _Told(jobs, on_event)
        if self.cluster is not None:
            return self._on_ray(jobs, shared, told)
        wanted = min(self.workers, len(jobs))
        if wanted == 1:
            return self._in_turn(jobs, shared, told)
        workers = min(wanted, side_by_side(shared.task))
        if workers < wanted:
            told.note(
                f"{workers} of {self.workers} workers: a run may take "
                f"{memory_of(shared.task) / 2**30:.1f} GiB and more would exhaust the memory"
            )
        if workers == 1:
            return self._in_turn(jobs, shared, told)
        return self._on_pool(jobs, shared, told, workers)

    def share(self, jobs: Sequence[Job], place: int, workers: int = 1) -> float | None:
        """Seconds for the job at `place`: its weight of what is left for its seed."""
        if self.deadline is None:
            return None
        left = max(self.deadline - time.monotonic(), 1.0)
        own = jobs[place]
        waiting = sum(job.weight for job in jobs[place:] if job.seed == own.seed)
        most = left if self.longest is None else min(left, self.longest)
        return max(min(most, left * workers * own.weight / waiting), 1.0)

    def too_late(self, jobs: Sequence[Job], place: int) -> bool:
        """Whether no time is left for a job; the first of all is done all the same."""
        return place > 0 and self.deadline is not None and time.monotonic() >= self.deadline

    def _in_turn(self, jobs: Sequence[Job], shared: Shared, told: "_Told") -> dict[str, str]:
        failures = {}
        for place, job in enumerate(jobs):
            if self.too_late(jobs, place):
                failures[job.name] = NOT_BEGUN
                told.ended(job, NOT_BEGUN)
                continue
            told.started(job)
            problem = attempt(job, shared, self.share(jobs, place), told.of(job))
            if problem:
                failures[job.name] = problem
            told.ended(job, problem)
        return failures

    def _on_pool(
        self, jobs: Sequence[Job], shared: Shared, told: "_Told", workers: int
    ) -> dict[str, str]:
        begun: set[int] = set()

        def begins(place: int) -> None:
            if place not in begun:
                told.started(jobs[place])
            begun.add(place)

        failures = {}
        work = functools.partial(_placed, self, jobs, shared=shared, workers=workers)
        done = pool.side_by_side(
            work, len(jobs), workers=workers, threads=self.threads or 1, begins=begins
        )
        with contextlib.closing(done):
            for place, found in done:
                problem = str(found) if isinstance(found, pool.Died) else _problem(found)
                if problem:
                    failures[jobs[place].name] = problem
                told.ended(jobs[place], problem)
        return failures

    def _on_ray(self, jobs: Sequence[Job], shared: Shared, told: "_Told") -> dict[str, str]:
        ray = connected(str(self.cluster))
        need = memory_of(shared.task)
        cpus = self.threads or 1
        largest = max(
            (node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]),
            default=0,
        )
        if need > largest:
            raise StudyError(
                f"a run may take {need / 2**30:.1f} GiB and the largest node of the cluster has "
                f"{largest / 2**30:.1f} GiB; use fewer rows (--max-rows) or larger nodes"
            )
        slots = max(1, int(ray.cluster_resources().get("CPU", 1) // cpus))
        # a job that a dying worker or node took with it is done again, from its checkpoint
        remote = ray.remote(num_cpus=cpus, memory=need, max_retries=-1)(_placed_afar)
        held = ray.put(shared)
        left = None if self.deadline is None else self.deadline - time.monotonic()
        ends = None if left is None else time.time() + left
        waiting = {
            remote.remote(self, ends, list(jobs), place, held, slots): place
            for place in range(len(jobs))
        }
        failures = {}
        try:
            while waiting:
                done, _ = ray.wait(list(waiting), num_returns=1)
                place = waiting.pop(done[0])
                problem = _problem(ray.get(done[0]))
                if problem:
                    failures[jobs[place].name] = problem
                told.ended(jobs[place], problem)
        except BaseException:
            for reference in waiting:
                ray.cancel(reference, force=True)
            raise
        return failures


def memory_of(task: Any) -> int:
    """Bytes that a run on this task may take: a process, and its data several times over."""
    return PROCESS_BYTES + COPIES * int(task.size_bytes)


def side_by_side(task: Any) -> int:
    """How many runs on this task the free memory of this machine holds, at least one."""
    import psutil

    return max(1, int(0.8 * psutil.virtual_memory().available // memory_of(task)))


def _placed(
    schedule: Schedule, jobs: Sequence[Job], place: int, shared: Shared, workers: int
) -> str | StorageError | None:
    """Do the job at `place`, in a process of its own. Returns None, or why it failed."""
    if schedule.too_late(jobs, place):
        return NOT_BEGUN
    begun = time.monotonic()
    while True:
        try:
            problem = attempt(jobs[place], shared, schedule.share(jobs, place, workers))
        except StorageError as error:
            return error  # a cluster would wrap what is raised
        locked = problem is not None and "is being written by another process" in problem
        if not locked or time.monotonic() - begun > LOCK_SECONDS:
            return problem
        time.sleep(1)


def _placed_afar(schedule: Schedule, ends: float | None, *given: Any) -> str | StorageError | None:
    """`_placed` on a machine whose `time.monotonic()` is another: `ends` is wall-clock time."""
    if ends is not None:
        schedule = replace(schedule, deadline=time.monotonic() + ends - time.time())
    return _placed(schedule, *given)


def _problem(found: str | StorageError | None) -> str | None:
    """What `_placed` gave back, in the process that waits for it.

    Raises:
        StorageError: the disk cannot be written, which every other job would meet too.
    """
    if isinstance(found, StorageError):
        raise found
    return found


@dataclass(frozen=True)
class _Told:
    """Tells a listener what becomes of the jobs."""

    jobs: Sequence[Job]
    on_event: OnEvent | None

    def started(self, job: Job) -> None:
        self._tell(job, state="started")

    def ended(self, job: Job, problem: str | None) -> None:
        if problem == NOT_BEGUN:
            self._tell(job, state="skipped", problem=problem.partition(": ")[2])
            return
        self._tell(job, state="failed" if problem else "finished", problem=problem)

    def of(self, job: Job) -> OnEvent | None:
        """What tells of a job while it trains."""
        if self.on_event is None:
            return None
        return lambda event: self._tell(job, **({"state": "training"} | event))

    def note(self, sentence: str) -> None:
        """A sentence about all of them."""
        if self.on_event is not None:
            self.on_event({"state": "note", "note": sentence})

    def _tell(self, job: Job, **event: Any) -> None:
        if self.on_event is not None:
            about = {"run": job.name, "slug": job.slug, "seed": job.seed}
            self.on_event(about | {"index": self.jobs.index(job), "total": len(self.jobs)} | event)
