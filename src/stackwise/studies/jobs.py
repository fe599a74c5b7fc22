"""The jobs of a study: what one process does at a time, whichever process it is.

A job's numbers depend on its own settings alone: threads are part of them, so that a job is the
same in this process, in a local pool and on a cluster. Each keeps what it made in the study's
folder and goes on from there when it is done again.
"""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stackwise import runs
from stackwise.errors import Interrupted, OutOfTime, StackwiseError, StorageError
from stackwise.files import writing
from stackwise.learning.memory import ran_out

OnEvent = Callable[[dict[str, Any]], None]
NOT_BEGUN = "not begun: the time limit left no time for it"
"""Why a job was left out, in place of what went wrong."""


@dataclass(frozen=True)
class Shared:
    """What all jobs of a study share.

    Attributes:
        settings: arguments of `runs.fit_run` that are the same for all runs.
    """

    task: Any
    out: Path
    settings: Mapping[str, Any] = field(default_factory=dict)


class Job(Protocol):
    """A piece of work with a name and a weight: its share of the time, in fits."""

    @property
    def name(self) -> str: ...
    @property
    def slug(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def weight(self) -> float: ...
    def do(self, shared: Shared, seconds: float | None, on_event: OnEvent | None) -> None: ...


@dataclass(frozen=True)
class FitJob:
    """Fit one method with one seed and keep it as a run."""

    slug: str
    seed: int
    knobs: Mapping[str, Any] = field(default_factory=dict)
    variant: str | None = None
    weight: float = 1.0

    @property
    def name(self) -> str:
        """The run's folder."""
        return "-".join([self.slug, *([self.variant] if self.variant else []), f"seed{self.seed}"])

    def do(self, shared: Shared, seconds: float | None, on_event: OnEvent | None) -> None:
        """Fit it, or go on with it."""
        runs.fit_run(
            self.slug, shared.task, out=shared.out / "runs" / self.name, knobs=self.knobs,
            seed=self.seed, variant=self.variant, resume=True, time_limit=seconds,
            on_event=on_event, **shared.settings,
        )  # fmt: skip


def attempt(
    job: Job, shared: Shared, seconds: float | None, on_event: OnEvent | None = None
) -> str | None:
    """Do a job. Returns None, or why it failed: a broken method does not take others with it."""
    return problem_of(lambda: job.do(shared, seconds, on_event), shared.out)


def problem_of(work: Callable[[], Any], out: Path) -> str | None:
    """Do some work of the study in `out`. Returns None, or a sentence about what went wrong.

    An interrupt goes on, and so does a disk that cannot be written: the next job would meet it too.
    """
    try:
        with writing(out):
            work()
    except (Interrupted, StorageError):
        raise
    except OutOfTime:
        return NOT_BEGUN
    except StackwiseError as error:
        return ran_out(error) or str(error)
    except Exception as error:
        if sentence := ran_out(error):
            return sentence
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
    return None
