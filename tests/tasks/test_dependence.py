"""Partial dependence as a probe: a table and a picture a column, in Python and by command."""

import json

import numpy as np
import pandas as pd
import pytest

from stackwise.errors import DataError, ModelError
from stackwise.runs import fit_run
from stackwise.tasks.images.task import ImagesTask
from stackwise.tasks.table.baselines import LinearClassifier, LinearRegressor
from stackwise.tasks.table.dependence import figure_of, partial_dependence
from stackwise.tasks.table.task import TableTask


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    x = generator.normal(size=300)
    kind = generator.choice(["a", "b", "c"], 300)
    y = 3 * x + 2 * (kind == "a") + 0.1 * generator.normal(size=300)
    return pd.DataFrame({"x": x, "kind": kind, "idle": generator.normal(size=300), "y": y})


@pytest.fixture(scope="module")
def fitted(frame):
    task = TableTask.load(frame, target="y")
    return task.fit(LinearRegressor(penalty=0.01)), task


def test_a_table_a_column_says_the_mean_answer_at_each_value(fitted):
    learner, task = fitted
    found = partial_dependence(learner, task, columns=["x", "kind"])
    slope = np.polyfit(found.tables["column-0"]["value"], found.tables["column-0"]["prediction"], 1)
    assert slope[0] == pytest.approx(3, abs=0.1)
    worth = found.tables["column-1"].set_index("value")["prediction"]
    assert worth["a"] - worth["b"] == pytest.approx(2, abs=0.1)
    assert list(found.summary) == ["x", "kind"] and set(found.figures) == set(found.tables)
    rows, _ = task.part("train")
    assert found.tables["column-1"]["rows"].sum() == len(rows)


def test_without_names_the_columns_that_are_used_most_come_first(fitted):
    learner, task = fitted
    assert list(partial_dependence(learner, task, most=2).summary) == ["x", "kind"]


def test_of_two_classes_one_line_is_drawn_and_of_three_each(frame):
    for column, lines in (("kind", 3), ("sign", 1)):
        own = frame.assign(sign=np.where(frame["y"] > 0, "yes", "no"))[["x", "idle", column]]
        task = TableTask.load(own, target=column)
        found = partial_dependence(task.fit(LinearClassifier(penalty=1.0)), task, columns=["x"])
        (axes,) = found.figures["column-0"].axes
        assert len(axes.lines) == lines


def test_words_stand_from_top_to_bottom_in_their_order():
    table = pd.DataFrame({"value": ["u", "v"], "rows": [3, 2], "prediction": [1.0, 2.0]})
    (axes,) = figure_of(table, "kind", ["prediction"]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["u", "v"]
    assert axes.yaxis_inverted() and list(axes.lines[0].get_xdata()) == [1.0, 2.0]


def test_what_cannot_be_looked_at_is_refused(fitted):
    learner, task = fitted
    with pytest.raises(ModelError, match="no fitted learner"):
        partial_dependence(object(), task)
    with pytest.raises(DataError, match="give the table"):
        partial_dependence(learner)
    with pytest.raises(DataError, match="give the table"):
        partial_dependence(learner, ImagesTask.small())
    with pytest.raises(DataError, match="Did you mean 'kind'"):
        partial_dependence(learner, task, columns=["kinds"])


def test_the_command_reads_the_data_as_the_run_did(frame, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame.to_csv("t.csv", index=False)
    fit_run("linear", TableTask.load("t.csv", target="y"), out="run", knobs={"penalty": 0.01})
    code, out, err = command(
        "probe", "partial-dependence", "run", "--data", "t.csv", "--set", "columns=x",
        "--out", "found", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert list(json.loads(out)["summary"]) == ["x"]
    assert (tmp_path / "found" / "figures" / "column-0.png").is_file()
    assert "give the table" in command("probe", "partial-dependence", "run", "--out", "g")[2]
    assert "partial-dependence" in command("list")[1]
