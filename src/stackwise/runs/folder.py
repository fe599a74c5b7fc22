"""A run folder, read when it is asked: its record, its history, its predictions, what it made."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stackwise.errors import RunError
from stackwise.files import check_shape, read_file, read_json, read_lines
from stackwise.places import check_contained, inside
from stackwise.shapes import SCORE

if TYPE_CHECKING:
    import pandas as pd


FORMAT = 1
REFITTED = "refit"
"""In a study's folder: the winner, fitted again on all samples."""
OnEvent = Callable[[dict[str, Any]], None]
RECORD = {
    "status": str, "kind": str, "slug": str, "title": str, "seed": int, "command": str,
    "threads": int, "versions": {"*": object}, "machine": {"*": object}, "commit?": (str, None),
    "variant?": (str, None), "data?": ({"name": str, "task?": str}, None),
    "model?": {"reference?": str},
    "scores?": {"*": {"*": SCORE}}, "seconds?": {"*": SCORE}, "size_bytes?": int, "notes?": [str],
}  # fmt: skip
"""What run.json holds from the start."""
FINISHED = {"size_bytes": int, "seconds": {"fit": SCORE}}
"""What it holds besides once the run is finished."""
JUDGED = {
    "metric": {"name": str, "mode": str},
    "scores": dict,
    "seconds": {"fit": SCORE, "predict_per_1000_rows": SCORE},
}
"""What it holds besides once a learner was fitted and judged."""
KEPT = {"winner": {"folder": str}, "refit?": ({"folder?": (str, None)}, None)}
"""What study.json says of the run to keep."""
COLUMNS = [{"column": str, "kind": str, "done": str}]
"""What columns.json says was done with each column."""
EPOCH = {"fit?": int, "epoch?": SCORE, "seconds?": SCORE, "metrics?": {"*": SCORE}}
"""A line of metrics.jsonl."""


@dataclass(frozen=True)
class Run:
    """A run folder, read when it is asked."""

    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json.

        Raises:
            RunError: it is missing, damaged or of a newer version.
        """
        path = self.folder / "run.json"
        record: dict[str, Any] = read_json(path, RECORD, newest=FORMAT)
        if record["status"] == "finished":
            check_shape(path, record, FINISHED)
            if record["kind"] == "fit":
                check_shape(path, record, JUDGED)
                judged = {record["metric"]["name"]: SCORE}
                # where a truth is missing, no score is there at all
                found = judged if any(record["scores"].values()) else {}
                check_shape(path, record, {"scores": {"validation": found, "test": found}})
        return record

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.folder / "run.json").is_file() and self.record["status"] == "finished"

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a line that a kill cut off is left out."""
        return read_lines(self.folder / "metrics.jsonl", EPOCH)

    @property
    def predictions(self) -> "pd.DataFrame":
        """The predictions on the test part: row, target, prediction, probability_<class>."""
        return self.predictions_on("test")

    def predictions_on(self, part: Literal["validation", "test"]) -> "pd.DataFrame":
        """The predictions on a part; on validation rows a bagged run's are out of fold."""
        import pandas as pd

        return read_file(self.folder / f"{part}_predictions.parquet", pd.read_parquet)

    @property
    def problem(self) -> str | None:
        """Why the run cannot be read, in one sentence; None where it can."""
        import pyarrow.parquet

        try:
            if (self.folder / "columns.json").is_file():
                read_json(self.folder / "columns.json", COLUMNS)
            if self.finished and self.record["kind"] == "fit":
                for part in ("validation", "test"):
                    path = self.folder / f"{part}_predictions.parquet"
                    read_file(path, pyarrow.parquet.read_metadata)
        except RunError as error:
            return str(error)
        return None

    def push_to_hub(
        self, repository: str, *, private: bool = True, token: str | None = None
    ) -> str:
        """Put the run on the Hugging Face hub, without rows of its data; returns its address.

        Of a language model it is the model folder, which loads in plain transformers, and the card.

        Args:
            repository: `owner/name`. private: a repository that is made is private.
            token: of the hub; None takes the one of `hf auth login`.

        Raises:
            RunError: the run is not finished. ModelError: the hub refused.
        """
        from stackwise import hub

        if not self.finished:
            raise RunError(f"{self.folder} is not finished; repeat its command with --resume")
        model = self.folder / "model"
        if not (model / "config.json").is_file():
            return hub.upload(self.folder, repository, private=private, token=token)
        with tempfile.TemporaryDirectory() as place:
            both = Path(shutil.copytree(model, Path(place) / "model"))
            shutil.copyfile(self.folder / "README.md", both / "README.md")
            return hub.upload(both, repository, private=private, token=token)


def load(run: Path | str) -> Any:
    """Give back what a finished run made: a fitted learner, a model, a `Delta` or `Findings`.

    Of a study it is what its winner made; of a folder that a learner's `save` wrote, the learner.

    Raises:
        RunError: the folder is no run, is unfinished or damaged.
    """
    folder = kept_folder(run)
    if not (folder / "run.json").is_file():
        if (folder / "model.json").is_file():
            from stackwise.models import load_learner

            return load_learner(folder)
        raise RunError(f"{folder} is not a stackwise run: it has no run.json")
    check_contained(folder)
    record = Run(folder).record
    if record["status"] == "finished" and record["kind"] == "probe":
        from stackwise.findings import Findings

        return Findings.load(folder)
    from stackwise import adapt, models

    if record["status"] == "finished" and (folder / adapt.DELTA).is_dir():
        return adapt.Delta.load(folder / adapt.DELTA)
    return models.model_of_run(folder, record["status"])


def kept_folder(reference: Path | str) -> Path:
    """The folder of a run; of a study, that of what it keeps: its winner, fitted again on all
    samples where that was asked for.
    """
    folder = Path(reference)
    if not (folder / "study.json").is_file():
        return folder
    found = read_json(folder / "study.json", KEPT, newest=FORMAT)
    if (found.get("refit") or {}).get("folder") is not None:
        return folder / REFITTED
    return inside(folder, found["winner"]["folder"])


def find(root: Path | str = ".") -> list[Run]:
    """Every run folder at or below `root`, oldest first."""
    found = [path for path in Path(root).rglob("run.json") if path.is_file()]
    return [Run(path.parent) for path in sorted(found, key=lambda path: path.stat().st_mtime)]
