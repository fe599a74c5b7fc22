"""A comparison that ends with its page: `stackwise.compare`, and the command of that name."""

import functools
import inspect
import tempfile
import time
from pathlib import Path
from typing import Any

from stackwise import processes, studies
from stackwise.errors import StackwiseError, StorageError, StudyError
from stackwise.files import read_json, remove, write_json, writing
from stackwise.progress import spoken
from stackwise.report.page import build
from stackwise.runs import REFITTED, Run, refit_run
from stackwise.studies import Benchmark, Study
from stackwise.studies.limits import Limit


def compare(
    source: Any,
    target: str | None = None,
    *,
    task: str | None = None,
    out: Path | str | None = None,
    refit: bool = False,
    **settings: Any,
) -> Study:
    """Fit every method that serves your data, and baselines, on the same split; keep the best.

        study = stackwise.compare(frame, "price")
        study.leaderboard()                 # every method: validation, test, times
        study.predict(new)                  # by the winner

    Args:
        source: a frame (pandas, polars, arrow), a file, a data set's name, or a loaded task.
        target: the column to predict.
        task: what the data is, where that is not plain.
        out: the folder to write; by default a new one below the system's temporary folder, named by
            `study.folder`, which the system may clear some day.
        refit: fit the winner again on all samples after the choice; it then predicts. A part of a
            time limit is kept for it; not where less is left than the winner's own fit took.
        settings: further arguments of `stackwise.studies.compare`: `methods`, `seeds`, `preset`,
            `knobs`, `time_limit`, `tune`, `bag`, `stack`, `workers`, `resume`, `data_options`, ...

    Returns:
        The study; its folder also holds `report.html`.

    Raises:
        StackwiseError: one sentence about what cannot be used, and what would be right.
    """
    limit = Limit(settings.get("time_limit"), time.monotonic())
    loaded = studies.opened_source(source, target, task, settings.pop("data_options", None))
    study = studies.compare(loaded, out=_folder(out), refit=refit, **settings)
    told = settings.get("on_event") or (lambda event: None)
    if processes.is_first():
        if refit:
            told({"state": "concluding", "note": "fitting the winner again on all rows"})
            _refit(study, loaded, settings.get("command"), limit.left())
        told({"state": "concluding", "note": "writing the page"})
        build([study.folder], study.folder / "report.html")
    processes.wait()
    return study


def _signature() -> inspect.Signature:
    """That of `stackwise.studies.compare` for `help`, with what is otherwise here."""
    own = inspect.signature(compare).parameters
    below = inspect.signature(studies.compare).parameters
    joined = {**own, **{name: one for name, one in below.items() if name not in own}}
    joined.pop("settings")
    return inspect.Signature(list(joined.values()), return_annotation=Study)


compare.__signature__ = _signature()  # type: ignore[attr-defined]


def _folder(out: Path | str | None) -> Path:
    """The folder that was named, or a new one.

    Raises:
        StudyError: several processes need one name.
    """
    if out is not None:
        return Path(out)
    if processes.count() > 1:
        raise StudyError("started by a launcher a comparison needs a folder: give out=")
    return Path(tempfile.mkdtemp(prefix="stackwise-"))


def _refit(study: Study, task: Any, command: str | None, left: float | None) -> None:
    """Fit the winner again. What cannot be fitted so stays as it is, and the study says why.

    Args:
        left: seconds that a limit leaves. Fewer than the winner took would cut the fit short, and
            what is then worse than the winner would predict in its place.

    Raises:
        StorageError: the disk cannot be written, which says nothing of the winner.
    """
    out = study.folder / REFITTED
    _drop_overtaken(out, study.winner)
    took = study.winner.record["seconds"]["fit"]
    said: dict[str, Any]
    if left is not None and left < took and not Run(out).finished:
        said = {
            "folder": None,
            "why": f"the time limit leaves {spoken(left)} and the winner's fit took "
            f"{spoken(took)}; repeat with --resume and more time",
        }
    else:
        try:
            refit_run(study.winner, task, out=out, resume=True, time_limit=left, command=command)
            said = {"folder": REFITTED}
        except StorageError:
            raise
        except StackwiseError as error:
            said = {"folder": None, "why": str(error)}
    write_json(study.folder / "study.json", study.record | {"refit": said})


def _drop_overtaken(out: Path, winner: Run) -> None:
    """Remove what was fitted again of a winner that further runs have overtaken, or begun to be."""
    begun = out / "request.json"
    if begun.is_file() and read_json(begun, dict).get("of") != winner.folder.name:
        aside = out.with_name(f".{out.name}.part")  # a kill on the way leaves what a resume sweeps
        with writing(out):
            out.rename(aside)
        remove(aside)


@functools.wraps(studies.compare_tables)
def compare_tables(*given: Any, **settings: Any) -> Benchmark:
    """`stackwise.studies.compare_tables`, and a page of it and of each table's study."""
    bench = studies.compare_tables(*given, **settings)
    if settings.get("on_event") is not None:
        settings["on_event"]({"state": "concluding", "note": "writing the pages"})
    for folder in (*(study.folder for study in bench.studies.values()), bench.folder):
        build([folder], folder / "report.html")
    return bench
