"""A run folder: read when it is asked, held by one process while it is written."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stackwise import processes
from stackwise.errors import RunError, StackwiseError, TrainingError
from stackwise.files import plain, read_json, write_json

if TYPE_CHECKING:
    import pandas as pd


FORMAT = 1
OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Run:
    """A run folder, read when it is asked."""

    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json."""
        record = read_json(self.folder / "run.json")
        if not isinstance(record, dict) or record.get("format", 0) > FORMAT:
            raise RunError(
                f"{self.folder} was written by a newer stackwise (format {record.get('format')}, "
                f"this one reads up to {FORMAT})"
            )
        return record

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.folder / "run.json").is_file() and self.record["status"] == "finished"

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a line that a kill cut off is left out."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        parsed = []
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError):
                parsed.append(json.loads(line))
        return parsed

    @property
    def predictions(self) -> "pd.DataFrame":
        """The predictions on the test part: row, target, prediction, probability_<class>."""
        return self.predictions_on("test")

    def predictions_on(self, part: Literal["validation", "test"]) -> "pd.DataFrame":
        """The predictions on a part; on validation rows a bagged run's are out of fold."""
        import pandas as pd

        return pd.read_parquet(self.folder / f"{part}_predictions.parquet")


def load(run: Path | str) -> Any:
    """Give back what a finished run made: a fitted learner, a model or `Findings`.

    Of a study it is what its winner made.

    Raises:
        RunError: the folder is no run, is unfinished or damaged.
    """
    folder = Path(run)
    if (folder / "study.json").is_file():
        folder = folder / read_json(folder / "study.json")["winner"]["folder"]
    if not (folder / "run.json").is_file():
        raise RunError(f"{folder} is not a stackwise run: it has no run.json")
    record = Run(folder).record
    if record["status"] != "finished":
        raise RunError(
            f"{folder} is not finished (status {record['status']}); "
            "repeat its command with --resume"
        )
    if record["kind"] == "probe":
        from stackwise.findings import Findings

        return Findings.load(folder)
    from stackwise import models

    if (folder / "model.json").is_file():
        return models.load_learner(folder)
    return models.open_model(folder / "model")


def find(root: Path | str = ".") -> list[Run]:
    """Every run folder at or below `root`, oldest first."""
    paths = sorted(Path(root).rglob("run.json"), key=lambda path: path.stat().st_mtime)
    return [Run(path.parent) for path in paths]


@contextlib.contextmanager
def opened(out: Path | str, request: Mapping[str, Any], *, resume: bool) -> Iterator[bool]:
    """Hold the folder of a run while it is written.

    Args:
        out: the folder; made where it is missing.
        request: what was asked for. A folder that was started with another request is refused.
        resume: go on where a run of the same request is there.

    Yields:
        True where the run is finished already.

    Raises:
        RunError: the folder is not empty and `resume` is off, holds something else, was started
            with other settings, or another process writes it.
    """
    if not processes.is_first():  # the first holds the folder for all
        said = processes.told_by_first(None)
        if isinstance(said, StackwiseError):
            raise said
        yield said
        return
    with contextlib.ExitStack() as held:
        try:
            finished = held.enter_context(_held(Path(out), request, resume=resume))
        except StackwiseError as error:
            processes.told_by_first(error)
            raise
        yield processes.told_by_first(finished)


@contextlib.contextmanager
def _held(out: Path, request: Mapping[str, Any], *, resume: bool) -> Iterator[bool]:
    """`opened`, of the one process that writes."""
    import filelock

    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; --out must name a folder for the run")
    made = next((p for p in reversed([out, *out.parents]) if not p.exists()), None)
    here = [path for path in out.iterdir() if path.name != ".lock"] if out.is_dir() else []
    if here and not resume:
        raise RunError(
            f"{out} is not empty; add --resume to go on with it, or name another folder with --out"
        )
    if here and not (out / "request.json").is_file():
        raise RunError(f"{out} is not empty and holds no run; name another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out / ".lock", timeout=0)
        lock.acquire()
    except filelock.Timeout as error:
        raise RunError(f"{out} is being written by another process; wait for it to end") from error
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror or error}") from error
    try:
        asked = plain(dict(request))
        if (out / "request.json").is_file():
            _same_request(out, read_json(out / "request.json"), asked)
        else:
            write_json(out / "request.json", asked)
        yield (out / "run.json").is_file() and read_json(out / "run.json")["status"] == "finished"
    except TrainingError:
        raise
    except StackwiseError:
        if made is not None:  # a refused request leaves nothing behind, no parent folder either
            shutil.rmtree(made, ignore_errors=True)
        raise
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            (out / ".lock").unlink()


def _same_request(out: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            raise RunError(
                f"{out} was started with another {name}: {then.get(name)!r} then, "
                f"{now.get(name)!r} now; repeat the same command, or name another folder with --out"
            )
