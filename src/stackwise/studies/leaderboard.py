"""The table that a user of Python looks at first: every method, its scores, times and limits."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stackwise.runs import Run

if TYPE_CHECKING:
    import pandas as pd

CUT = "cut by the limit"


def leaderboard(ranking: "pd.DataFrame", finished: Iterable[Run]) -> "pd.DataFrame":
    """A ranking, laid out by what the choice rests on.

    Args:
        ranking: as `rank` gives it.
        finished: the runs that it is made of.

    Returns:
        One row a method, best mean validation score first: `method`; `validation` and `test`, mean
        scores over seeds by the deciding metric, whose name is in `attrs["metric"]`; `low` and
        `high`, the 95 % interval of the test mean; `seeds`; `fit_seconds`; `predict_ms` for 1000
        rows; `size_mb`; and `cut by the limit`, whether a time limit ended one of its runs.
    """
    metric = next(iter(finished)).record["metric"]
    table = ranking.rename(columns={"mean": "test", "cut": CUT})
    table = table.sort_values("validation", ascending=metric["mode"] == "min", kind="stable")
    table = table[["method", "validation", "test", "low", "high", "seeds", "fit_seconds",
                   "predict_ms", "size_mb", CUT]].reset_index(drop=True)  # fmt: skip
    table.attrs["metric"] = metric["name"]
    return table
