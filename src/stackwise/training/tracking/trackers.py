"""Experiment trackers that the user switches on: TensorBoard, MLflow, and others of accelerate's.

accelerate writes; what is decided here is which steps. A tracker is told what `metrics.jsonl` is
told, a line an epoch, and the knobs and final scores of the run. Its step is the number of that
line, so that phases and fits follow each other. A resumed run goes on in the same place: lines
that its checkpoint knows are there once, never twice. Nothing of a tracker is imported before one
is switched on.
"""

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from stackwise.errors import KnobError, NotInstalled, RunError, nearest
from stackwise.training.tracking.reported import MLflow, Reported, TensorBoard, classes

VARIABLE = "STACKWISE_TRACK"
NEEDS = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
"""What `stackwise[track]` brings; every other tracker is a package of its own name."""


class Tracker(Protocol):
    """What a session tells."""

    def rewind(self, lines: list[dict[str, Any]]) -> None:
        """These lines are what is known when a fit begins or goes on; drop all others."""
        ...

    def log(self, line: dict[str, Any]) -> None:
        """One more epoch."""
        ...

    def close(self, scores: Mapping[str, Mapping[str, float]] | None, status: str) -> None:
        """The end: `scores` by part of a finished run, or None; `status` as in run.json."""
        ...


def chosen(track: str | None) -> tuple[str, ...]:
    """The trackers that are switched on: `track`, or the environment's STACKWISE_TRACK.

    Args:
        track: tensorboard, mlflow, wandb or another of accelerate's, several with commas between,
            or none.

    Raises:
        KnobError: there is no such tracker. NotInstalled: its package is missing.
    """
    words = (track if track is not None else os.environ.get(VARIABLE, "")).split(",")
    names = tuple(dict.fromkeys(word.strip().lower() for word in words if word.strip()))
    if names in ((), ("none",)):
        return ()
    known = classes()
    for name in names:
        if name not in known:
            raise KnobError(
                f"track takes {', '.join(sorted(known))} or none, got {name!r}."
                f"{nearest(name, known)}"
            )
        if not known[name].__module__.startswith("accelerate."):
            continue  # a class that its owner registered with accelerate is there
        needed = NEEDS.get(name, (name,))
        missing = [part for part in needed if importlib.util.find_spec(part) is None]
        if missing:
            package = '"stackwise[track]"' if name in NEEDS else name
            raise NotInstalled(
                f"tracking with {name} needs {' and '.join(missing)}: pip install {package}"
            )
    return names


@contextlib.contextmanager
def tracked(names: tuple[str, ...], out: Path, record: dict[str, Any]) -> Iterator[list[Tracker]]:
    """Open the trackers of a run, and close them with the scores that `record` holds at the end.

    Args:
        names: from `chosen`.
        out: the run's folder.
        record: the content of run.json, which the run goes on filling.
    """
    opened: list[Tracker] = []
    status = "failed"
    try:
        for name in names:
            opened.append(_Forgiving(name, _open(name, out, record)))
        yield opened
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except Exception as error:
        status = "interrupted" if type(error).__name__ == "Interrupted" else "failed"
        raise
    finally:
        for tracker in opened:
            tracker.close(record.get("scores") if status == "finished" else None, status)


def _open(name: str, out: Path, record: Mapping[str, Any]) -> Tracker:
    try:
        return {"tensorboard": TensorBoard, "mlflow": MLflow}.get(name, Reported)(name, out, record)
    except Exception as error:
        why = " ".join(str(error).split())[:300]
        raise RunError(f"the tracker {name} cannot be opened: {why}") from error


class _Forgiving:
    """A tracker that fails while the run goes on is left out with a warning: the run counts."""

    def __init__(self, name: str, inner: Tracker) -> None:
        self.name = name
        self.inner: Tracker | None = inner

    def _tell(self, method: str, *words: Any) -> None:
        if self.inner is None:
            return
        try:
            getattr(self.inner, method)(*words)
        except Exception as error:
            ended, self.inner = self.inner, None
            if method != "close":
                with contextlib.suppress(Exception):  # it may be in no state to be ended
                    ended.close(None, "failed")
            why = " ".join(str(error).split())[:300]
            warnings.warn(f"tracking with {self.name} has ended: {why}", stacklevel=4)

    def rewind(self, lines: list[dict[str, Any]]) -> None:
        self._tell("rewind", lines)

    def log(self, line: dict[str, Any]) -> None:
        self._tell("log", line)

    def close(self, scores: Mapping[str, Mapping[str, float]] | None, status: str) -> None:
        self._tell("close", scores, status)
