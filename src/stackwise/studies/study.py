"""A study's folder, as one object: what was found, and the winner, which predicts."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise import runs
from stackwise.errors import DataError, RunError, StudyError
from stackwise.files import read_json
from stackwise.places import inside
from stackwise.protocols import AnswersRows, ExplainsRows
from stackwise.runs import Run
from stackwise.runs.record import task_of
from stackwise.shapes import SCORE
from stackwise.studies.leaderboard import leaderboard
from stackwise.studies.ranking import rank
from stackwise.tasks import task_class

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PLAN = {
    "runs": [str], "seeds": [int], "preset": (str, None), "command": (str, None),
    "task": {"name": str, "problem": str, "task?": str, "notes": [str],
             "rows": {"train": int, "validation": int, "test": int}},
    "tune?": (int, None), "bag?": (int, None), "left_out?": [str],
}  # fmt: skip
ROW = {
    "method": str, "slug?": str, "mean": SCORE, "low": SCORE, "high": SCORE, "rank": SCORE,
    "validation": SCORE, "fit_seconds": SCORE, "predict_ms": SCORE, "size_mb": SCORE,
    "winner_better?": SCORE,
}  # fmt: skip
"""What study.json says of a method."""
RECORD = {
    "metric": {"name": str, "mode": str},
    "ranking": [ROW],
    "winner": {"slug": str, "method?": str, "folder": str},
    "failures": {"*": str},
    "interval_over?": str,
    "importance": [{"column": str, "mean": SCORE, "std": SCORE}],
}


@dataclass(frozen=True)
class Study:
    """A study's folder, read when it is asked.

    study = stackwise.compare(frame, "price")
    study.leaderboard()
    study.predict(new)
    """

    folder: Path

    @property
    def plan(self) -> dict[str, Any]:
        """What was asked for."""
        return dict(read_json(self.folder / "plan.json", PLAN))

    @property
    def record(self) -> dict[str, Any]:
        """Ranking, winner and failures, once the study is finished."""
        return dict(read_json(self.folder / "study.json", RECORD, newest=1))

    @property
    def problem(self) -> str | None:
        """Why the study is not finished or cannot be read, in one sentence; None where it can."""
        try:
            return None if self.plan and self.record else f"{self.folder} is empty"
        except RunError as error:
            return str(error)

    @property
    def _planned(self) -> list[Run]:
        return [Run(inside(self.folder / "runs", name)) for name in self.plan["runs"]]

    @property
    def runs(self) -> list[Run]:
        """The finished runs that can be read and have a score, in the order of the plan."""
        return [run for run in self._finished if _lacking(run) is None]

    @property
    def _finished(self) -> list[Run]:
        return [run for run in self._planned if run.problem is None and run.finished]

    @property
    def damaged(self) -> dict[str, str]:
        """Why some runs cannot be read, a sentence each, by name: the others stand without them."""
        found = {run.folder.name: run.problem for run in self._planned}
        return {name: problem for name, problem in found.items() if problem is not None}

    @property
    def unscored(self) -> dict[str, str]:
        """Why some finished runs cannot be ranked, a sentence each, by name."""
        found = {run.folder.name: _lacking(run) for run in self._finished}
        return {name: lacking for name, lacking in found.items() if lacking is not None}

    @property
    def winner(self) -> Run:
        """The run to keep: of the best method by validation, its best seed by validation."""
        return Run(inside(self.folder, self.record["winner"]["folder"]))

    @property
    def refitted(self) -> Run | None:
        """The winner fitted again on all samples, where that was asked for (`refit=True`)."""
        made = (self.record.get("refit") or {}).get("folder") is not None
        return Run(self.folder / runs.REFITTED) if made else None

    @property
    def kept(self) -> Run:
        """The run that predicts: the winner, or what it became on all samples."""
        return self.refitted or self.winner

    @property
    def best(self) -> Any:
        """The fitted learner of `kept`, read from its folder."""
        return self.load()

    @property
    def report(self) -> Path:
        """The page about this study, for a browser.

        Raises:
            StudyError: there is none yet.
        """
        path = self.folder / "report.html"
        if not path.is_file():
            raise StudyError(f"{path} is not there; 'stackwise report {self.folder}' writes a page")
        return path

    def ranking(self) -> "pd.DataFrame":
        """One row a method, best first; see `rank`."""
        return rank(self.runs, self._intervals())

    def _intervals(self) -> dict[str, tuple[float, float]]:
        """The intervals that were found when the study ended; none before."""
        if not (self.folder / "study.json").is_file():
            return {}
        rows = self.record["ranking"]
        return {row["method"]: (row["low"], row["high"]) for row in rows if row["low"] is not None}

    def leaderboard(self) -> "pd.DataFrame":
        """One row a method, best first by what chose the winner; see `leaderboard`."""
        return leaderboard(self.ranking(), self.runs)

    def load(self) -> Any:
        """The winner, fitted."""
        return runs.load(self.kept.folder)

    def answers(self, new: Any, **options: Any) -> "pd.DataFrame":
        """What the winner says about new rows, one row each, in their order.

        Args:
            new: a frame (pandas, polars, arrow), an array, a file or a data set's name.
            options: of the task's predictions: `threshold_for="f1"`, `interval=0.9`, `sep=";"`.

        Returns:
            `prediction`; of classes one `probability_<class>` each; with `interval` `low`, `high`.

        Raises:
            DataError: the rows cannot be read, or the study is not about rows.
        """
        return self._kind(AnswersRows).answer_rows(self.load(), new, run=self.kept, **options)

    def partial_dependence(self, rows: Any, column: str) -> "pd.DataFrame":
        """What the winner answers on average while one column of `rows` is set to each of some
        values: `value`, `rows` that it stands for, and `prediction` or `probability_<class>`.
        """
        found: pd.DataFrame = self._kind(ExplainsRows).partial_dependence(self.load(), rows, column)
        return found

    def contributions(self, rows: Any, background: Any) -> "pd.DataFrame":
        """What each cell of `rows` adds to the winner's answer, with the package shap.

        Args:
            background: rows that say what is usual, such as those of training.
        """
        found: pd.DataFrame = self._kind(ExplainsRows).contributions(self.load(), rows, background)
        return found

    def _kind(self, ability: type) -> Any:
        """The class of this study's task.

        Raises:
            DataError: it has not this ability.
        """
        kind = task_class(task_of(self.kept.record["data"]))
        if not isinstance(kind, ability):
            raise DataError(
                f"a {kind.name} is no table of rows; use what study.best offers, or 'stackwise "
                f"predict {self.folder} NEW'"
            )
        return kind

    def predict(self, new: Any, **options: Any) -> "np.ndarray":
        """(n,) what the winner predicts for new rows; arguments as for `answers`."""
        import numpy as np

        return np.asarray(self.answers(new, **options)["prediction"])

    def predict_proba(self, new: Any, **options: Any) -> "np.ndarray":
        """(n, C) probabilities of the winner, in the order of `study.best.classes_`.

        Raises:
            DataError: the winner predicts numbers.
        """
        import numpy as np

        found = self.answers(new, **options).filter(regex="^probability_")
        if not found.shape[1]:
            raise DataError("the winner predicts numbers, which have no probabilities")
        return np.asarray(found, dtype=np.float64)


def _lacking(run: Run) -> str | None:
    """Why a finished run cannot be ranked: its deciding score is no number."""
    metric = run.record["metric"]["name"]
    for part in ("validation", "test"):
        if (run.record["scores"].get(part) or {}).get(metric) is None:
            return f"its {metric} on the {part} rows is no number"
    return None
