"""Hold the folder of a run, or of a study, while one command writes it.

A kill at any moment leaves a folder with which the same command goes on; a refusal leaves nothing
of a run that has learned nothing, and all of one that has; and no command touches what another
wrote beside it.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stackwise import processes
from stackwise.errors import Interrupted, RunError, StackwiseError, TrainingError
from stackwise.files import is_part, plain, read_json, remove, write_json, writing
from stackwise.places import check_contained
from stackwise.runs.folder import Run


@dataclass
class Held:
    """A run's folder while its command writes it.

    Attributes:
        finished: the run came to its end before.
        said: the files that say what was asked for. While they are all that the folder holds,
            nothing was learned, and a refusal takes them back.
    """

    folder: Path
    finished: bool = False
    said: set[Path] = field(default_factory=set)

    def say(self, name: str, value: Any) -> None:
        """Write what is known before anything is learned."""
        self.said.add(self.folder / name)
        write_json(self.folder / name, value)

    def take_back(self) -> None:
        """Remove what was said, where nothing else is there: nothing was learned."""
        below = [path for path in self.folder.rglob("*") if path.name != ".lock"]
        if any(path.is_file() and path not in self.said for path in below):
            return
        for path in sorted(below, reverse=True):  # what is in a folder before the folder
            path.rmdir() if path.is_dir() else path.unlink()

    def mark(self, status: str) -> None:
        """Say of a run that this command began, and that did not come to its end, how it ended."""
        place = self.folder / "run.json"
        if place not in self.said:
            return
        record = read_json(place, {"status": str})
        if record["status"] == "running":
            write_json(place, record | {"status": status})


@contextlib.contextmanager
def opened(out: Path | str, request: Mapping[str, Any], *, resume: bool) -> Iterator[Held]:
    """Hold the folder of a run, or of a study, while it is written.

    Args:
        out: the folder; made where it is missing.
        request: what was asked for. A folder that was started with another request is refused.
        resume: go on where a run of the same request is there.

    Yields:
        The folder; what it should hold before anything is learned is said through it. A refusal
        before that removes what was said, and the folder where it was made here. What was learned
        stays whatever comes, for `resume`.

    Raises:
        RunError: the folder is not empty and `resume` is off, holds something else, was started
            with other settings, or another process writes it. StorageError: it cannot be written.
    """
    out = Path(out)
    if not processes.is_first():  # the first holds the folder for all
        said = processes.told_by_first(None)
        if isinstance(said, StackwiseError):
            raise said
        yield Held(out, said)
        return
    with contextlib.ExitStack() as held:
        try:
            folder = held.enter_context(_held(out, request, resume=resume))
        except StackwiseError as error:
            processes.told_by_first(error)
            raise
        processes.told_by_first(folder.finished)
        yield folder


@contextlib.contextmanager
def _held(out: Path, request: Mapping[str, Any], *, resume: bool) -> Iterator[Held]:
    """`opened`, of the one process that writes."""
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; --out must name a folder for the run")
    made = not out.exists()
    here = [] if made else [p for p in out.iterdir() if p.name != ".lock" and not is_part(p)]
    if here and not resume:
        raise RunError(
            f"{out} is not empty; add --resume to go on with it, or name another folder with --out"
        )
    if here and not (out / "request.json").is_file():
        raise RunError(f"{out} is not empty and holds no run; name another folder with --out")
    if here:
        check_contained(out)
    with _locked(out, made):
        folder = Held(out)
        try:
            with writing(out):
                sweep(out)
                _begin(folder, plain(dict(request)))
                yield folder
        except (KeyboardInterrupt, Interrupted):
            with contextlib.suppress(StackwiseError, OSError):
                folder.mark("interrupted")
            raise
        except Exception as error:
            with contextlib.suppress(StackwiseError, OSError):
                folder.mark("failed")
            if isinstance(error, StackwiseError) and not isinstance(error, TrainingError):
                with contextlib.suppress(OSError):
                    folder.take_back()
            raise


def _begin(folder: Held, asked: dict[str, Any]) -> None:
    """Write the request, or hold it against the one that the folder was begun with."""
    out = folder.folder
    if (out / "request.json").is_file():
        _same_request(out, read_json(out / "request.json", dict), asked)
        folder.said.add(out / "request.json")
    else:
        folder.say("request.json", asked)
    folder.finished = (out / "run.json").is_file() and Run(out).finished
    if folder.finished:
        remove(out / "checkpoint")  # a kill may have come before it was


@contextlib.contextmanager
def _locked(out: Path, made: bool) -> Iterator[None]:
    """Make the folder and keep other processes out of it; one that was made and is empty goes."""
    import filelock

    lock = filelock.FileLock(out / ".lock", timeout=0)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise RunError(
                f"{out} is being written by another process; wait for it to end"
            ) from error
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            _unlock(out, lock)
            if made:
                out.rmdir()  # refused where something was kept
        raise
    with writing(out):
        _unlock(out, lock)


def _unlock(out: Path, lock: Any) -> None:
    """Remove the lock's file while it is held, where that can be: the next holder makes its own."""
    try:
        if os.name != "nt":
            (out / ".lock").unlink(missing_ok=True)
    finally:
        lock.release()
        if os.name == "nt":
            (out / ".lock").unlink(missing_ok=True)


def tidy(folder: Path) -> None:
    """Clear away what a kill left in a folder whose work was done: its lock, and parts of files.

    Raises:
        RunError: another process writes it.
    """
    with _locked(folder, made=False):
        sweep(folder)


def sweep(folder: Path) -> None:
    """Remove the parts that a kill left, but for those in runs below: they have their own lock."""
    for path in list(folder.iterdir()):
        if is_part(path):
            remove(path)
        elif path.is_dir() and not any((path / n).exists() for n in (".lock", "request.json")):
            sweep(path)


def _same_request(out: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with a folder that another command began; the sentence says what differs."""
    differing = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    # the runs follow from the rest, and a hash of data tells a reader nothing
    telling = [name for name in differing if name != "runs"] or differing
    if telling:
        said = [_difference(name, then.get(name), now.get(name)) for name in telling]
        raise RunError(
            f"{out} was started with other settings: {'; '.join(said)}; repeat the same command, "
            "or name another folder with --out"
        )


def _difference(name: str, then: Any, now: Any) -> str:
    """One setting then and now, in words; of knobs only those that differ."""
    if name == "data":
        return "the data (or how they are read and split) are not those of then"
    if isinstance(then, dict) and isinstance(now, dict):
        keys = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
        parts = [_difference(f"{name}.{key}", then.get(key), now.get(key)) for key in keys]
        return "; ".join(part.removeprefix("knobs.") for part in parts)
    return f"{name} was {_word(then)} and is {_word(now)}"


def _word(value: Any) -> str:
    """A setting as a command line writes it."""
    if value is None:
        return "not given"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "nothing"
    return json.dumps(value) if isinstance(value, dict) else str(value)
