"""A run that an earlier version wrote still loads and predicts what it predicted then."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stackwise import load
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
    import shutil

    folder = shutil.copytree(DATA / "run-format-1", tmp_path / "run")
    record = read_json(folder / "model.json")
    record["knobs"]["no_longer_there"] = 3
    write_json(folder / "model.json", record)
    rows = pd.read_csv(DATA / "tiny.csv").drop(columns="price")
    assert len(load(folder).predict(rows)) == len(rows)
