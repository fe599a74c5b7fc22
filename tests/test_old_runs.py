"""A run that an earlier version wrote still loads and predicts what it predicted then."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stackwise import RegularizedStackingClassifier, RegularizedStackingRegressor, load
from stackwise.combine.regularized_meta_learning import StackedPredictions
from stackwise.errors import RunError
from stackwise.files import read_json, write_json
from stackwise.runs import Run

DATA = Path(__file__).parent / "data"


def test_a_committed_run_of_format_1_loads_and_predicts_the_same():
    fitted = load(DATA / "run-format-1")
    rows = pd.read_csv(DATA / "tiny.csv").drop(columns="price")
    then = pd.read_csv(DATA / "run-format-1.csv")["prediction"]
    assert np.allclose(fitted.predict(rows), then, rtol=1e-5)
    assert Run(DATA / "run-format-1").record["format"] == 1


def test_a_run_of_a_newer_format_is_refused_by_name(tmp_path: Path):
    record = read_json(DATA / "run-format-1" / "run.json")
    write_json(tmp_path / "run.json", record | {"format": 99})
    with pytest.raises(RunError, match=r"written by a newer stackwise \(format 99"):
        load(tmp_path)


def test_an_unfinished_run_is_refused_with_the_way_on(tmp_path: Path):
    record = read_json(DATA / "run-format-1" / "run.json")
    write_json(tmp_path / "run.json", record | {"status": "running"})
    with pytest.raises(RunError, match="repeat its command with --resume"):
        load(tmp_path)


def test_a_knob_that_is_gone_does_not_keep_a_run_from_loading(tmp_path: Path):
    folder = shutil.copytree(DATA / "run-format-1", tmp_path / "run")
    record = read_json(folder / "model.json")
    record["knobs"]["no_longer_there"] = 3
    write_json(folder / "model.json", record)
    rows = pd.read_csv(DATA / "tiny.csv").drop(columns="price")
    assert len(load(folder).predict(rows)) == len(rows)


class TestStacksOfFormat1:
    """The stacks that the first version of regularised meta-learning kept."""

    folder = DATA / "stack-format-1"
    then = pd.read_csv(folder / "then.csv")
    X = then[["x0", "x1", "x2"]].to_numpy()

    def test_estimators_predict_what_they_predicted(self):
        numbers = RegularizedStackingRegressor.load(self.folder / "numbers")
        assert [len(models) for models in numbers.estimators_] == [2, 2]
        assert set(numbers.meta_) == {"ridge", "lasso", "ridge-2"}
        assert numbers.meta[2].alpha == 3.0
        assert np.allclose(numbers.predict(self.X), self.then["numbers"], rtol=1e-9)
        classes = RegularizedStackingClassifier.load(self.folder / "classes")
        found = classes.predict_proba(self.X)
        assert np.allclose(found, self.then[["p0", "p1", "p2"]], rtol=1e-9)
        assert classes.pipeline_.tied_

    def test_joined_predictions_are_joined_as_they_were(self):
        P = np.stack([self.X[:, 0], self.X[:, 0] + self.X[:, 1] / 3, self.X[:, 2]], axis=1)
        for name in ("predictions", "mean"):
            stack = StackedPredictions.load(self.folder / f"{name}.json")
            assert np.allclose(stack.predict(P), self.then[name], rtol=1e-9)

    def test_a_base_model_that_is_no_more_is_named(self, tmp_path: Path):
        """Format 1 had forests and neighbours of its own."""
        folder = shutil.copytree(self.folder / "numbers", tmp_path / "numbers")
        record = read_json(folder / "base" / "0-0" / "model.json")
        own = record | {"class": "ForestTableRegressor"}
        write_json(folder / "base" / "0-0" / "model.json", own)
        with pytest.raises(RunError, match='the learner "ForestTableRegressor", which this'):
            RegularizedStackingRegressor.load(folder)
