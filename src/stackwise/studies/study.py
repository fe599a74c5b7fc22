"""A study's folder, as one object."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise import runs
from stackwise.files import read_json
from stackwise.runs import Run
from stackwise.studies.ranking import rank

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Study:
    """A study's folder, read when it is asked."""

    folder: Path

    @property
    def plan(self) -> dict[str, Any]:
        """What was asked for."""
        return dict(read_json(self.folder / "plan.json"))

    @property
    def record(self) -> dict[str, Any]:
        """Ranking, winner and failures, once the study is finished."""
        return dict(read_json(self.folder / "study.json"))

    @property
    def runs(self) -> list[Run]:
        """The finished runs, in the order of the plan."""
        folders = [self.folder / "runs" / name for name in self.plan["runs"]]
        found = [Run(folder) for folder in folders]
        return [run for run in found if run.finished]

    @property
    def winner(self) -> Run:
        """The run to keep: of the best method by validation, its best seed by validation."""
        return Run(self.folder / self.record["winner"]["folder"])

    def ranking(self) -> "pd.DataFrame":
        """One row a method, best first; see `rank`."""
        return rank(self.runs)

    def load(self) -> Any:
        """The winner, fitted."""
        return runs.load(self.winner.folder)
