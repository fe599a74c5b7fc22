"""What a table shows of its runs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stackwise.tasks.table.task import TableTask


@dataclass(frozen=True)
class Answered:
    """The part of a run that a task is given."""

    record: dict[str, Any]
    answers: pd.DataFrame

    def predictions_on(self, part: str) -> pd.DataFrame:
        assert part == "test"
        return self.answers


def test_calibration_is_the_share_that_was_right_by_the_probability_given():
    said = np.repeat([0.65, 0.95], 20)
    right = np.r_[np.arange(20) < 13, np.arange(20) < 10]  # as said, and too sure
    answers = pd.DataFrame({
        "target": np.where(right, "a", "b"), "prediction": "a", "probability_a": said,
        "probability_b": 1 - said,
    })  # fmt: skip
    run = Answered({"slug": "mlp"}, answers)
    found = TableTask.shows([run, run], {"problem": "binary"})
    table = found.tables["calibration"]
    assert list(table.index) == ["mlp", "mlp"]  # a method's first run alone
    assert np.allclose(table[["said", "right"]], [[0.65, 0.65], [0.95, 0.5]])
    assert list(table["rows"]) == [20, 20]
    (name,) = found.figures
    assert "bins of at least 10 rows" in found.summary[name]


def test_residuals_are_of_the_run_to_keep_and_quantiles_of_all():
    truth = np.arange(101.0)
    runs = [
        Answered({"slug": slug}, pd.DataFrame({"target": truth, "prediction": truth - off * truth}))
        for slug, off in (("linear", 0.0), ("mlp", 1.0))
    ]
    found = TableTask.shows(runs, {"problem": "regression"})
    assert list(found.figures) == ["Where linear errs"]
    table = found.tables["target minus prediction"]
    assert np.allclose(table.loc["linear"], 0)
    assert np.allclose(table.loc["mlp"], [5, 25, 50, 75, 95])
