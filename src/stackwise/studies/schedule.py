"""One scheduler for all studies: in turn, on a local pool of processes, or on a Ray cluster.

Where a job runs changes no number. What is left of the time is shared by the jobs that are left,
by their weights; what one leaves over goes to the others. Jobs go side by side only as far as
their memory allows. A worker or a node that dies takes no finished work with it: its job is done
again from its last checkpoint (on a cluster all nodes must see the study's folder).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stackwise.errors import NotInstalled, StudyError
from stackwise.studies.jobs import Job, OnEvent, Shared, attempt

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
        deadline: wall-clock time (`time.time()`) by which the study should end, or None.
    """

    workers: int = 1
    cluster: str | None = None
    threads: int | None = None
    deadline: float | None = None

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
        """Seconds for the job at `place`: of what is left, by its weight among those left."""
        if self.deadline is None:
            return None
        left = max(self.deadline - time.time(), 1.0)
        waiting = sum(job.weight for job in jobs[place:])
        return max(min(left, left * workers * jobs[place].weight / waiting), 1.0)

    def _in_turn(self, jobs: Sequence[Job], shared: Shared, told: "_Told") -> dict[str, str]:
        failures = {}
        for place, job in enumerate(jobs):
            told.started(job)
            problem = attempt(job, shared, self.share(jobs, place), told.of(job))
            if problem:
                failures[job.name] = problem
            told.ended(job, problem)
        return failures

    def _on_pool(
        self, jobs: Sequence[Job], shared: Shared, told: "_Told", workers: int
    ) -> dict[str, str]:
        from joblib import Parallel, delayed

        failures = {}
        pool = Parallel(n_jobs=workers, backend="loky", return_as="generator_unordered",
                        pre_dispatch=workers)  # fmt: skip
        for place, problem in pool(
            delayed(_placed)(self, jobs, place, shared, workers) for place in range(len(jobs))
        ):
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
        remote = ray.remote(num_cpus=cpus, memory=need, max_retries=-1)(_placed)
        held = ray.put(shared)
        waiting = {
            remote.remote(self, list(jobs), place, held, slots): place for place in range(len(jobs))
        }
        failures = {}
        try:
            while waiting:
                done, _ = ray.wait(list(waiting), num_returns=1)
                place = waiting.pop(done[0])
                _, problem = ray.get(done[0])
                if problem:
                    failures[jobs[place].name] = problem
                told.ended(jobs[place], problem)
        except BaseException:
            for reference in waiting:
                ray.cancel(reference, force=True)
            raise
        return failures


def connected(address: str) -> Any:
    """The module `ray`, connected to a cluster that is there.

    Raises:
        StudyError: ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise NotInstalled("--on ray needs ray: pip install 'stackwise[ray]'") from error
    if address != "ray" and not address.startswith("ray://"):
        raise StudyError(f"this runs on ray or on ray://host:port, not on {address!r}")
    if ray.is_initialized():
        return ray
    try:
        ray.init(
            address="auto" if address == "ray" else address, log_to_driver=False,
            configure_logging=False,
        )  # fmt: skip
    except ConnectionError as error:
        raise StudyError(
            "there is no Ray cluster to connect to; start one with 'ray start --head', or leave "
            "out --on for a pool of processes on this machine"
        ) from error
    return ray


def memory_of(task: Any) -> int:
    """Bytes that a run on this task may take: a process, and its data several times over."""
    return PROCESS_BYTES + COPIES * int(task.size_bytes)


def side_by_side(task: Any) -> int:
    """How many runs on this task the free memory of this machine holds, at least one."""
    import psutil

    return max(1, int(0.8 * psutil.virtual_memory().available // memory_of(task)))


def _placed(
    schedule: Schedule, jobs: Sequence[Job], place: int, shared: Shared, workers: int
) -> tuple[int, str | None]:
    """Do the job at `place`, in a process of its own."""
    begun = time.time()
    while True:
        problem = attempt(jobs[place], shared, schedule.share(jobs, place, workers))
        locked = problem is not None and "is being written by another process" in problem
        if not locked or time.time() - begun > LOCK_SECONDS:
            return place, problem
        time.sleep(1)


@dataclass(frozen=True)
class _Told:
    """Tells a listener what becomes of the jobs."""

    jobs: Sequence[Job]
    on_event: OnEvent | None

    def started(self, job: Job) -> None:
        self._tell(job, state="started")

    def ended(self, job: Job, problem: str | None) -> None:
        self._tell(job, state="failed" if problem else "finished", problem=problem)

    def of(self, job: Job) -> OnEvent | None:
        """What tells of a job while it trains."""
        if self.on_event is None:
            return None
        return lambda event: self._tell(job, state="training", **event)

    def note(self, sentence: str) -> None:
        """A sentence about all of them."""
        if self.on_event is not None:
            self.on_event({"state": "note", "note": sentence})

    def _tell(self, job: Job, **event: Any) -> None:
        if self.on_event is not None:
            about = {"run": job.name, "slug": job.slug, "seed": job.seed}
            self.on_event(about | {"index": self.jobs.index(job), "total": len(self.jobs)} | event)
