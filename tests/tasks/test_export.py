import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from stackwise.errors import ModelError
from stackwise.tasks.labelled.ensembles.bagged import Bagged
from stackwise.tasks.table.baselines import MLPClassifier, MLPRegressor
from stackwise.tasks.table.estimators.export import (
    WholeModel,
    code_table,
    export,
    normal_quantile,
)
from stackwise.tasks.table.features import by_column


def table(rows=400):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=rows) * 1e4,
            "rooms": rng.integers(0, 7, rows),
            "town": rng.choice(["a", "b", "c"], rows),
            "gap": rng.normal(size=rows),
            "side": rng.choice(["p", "q", None], rows),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.uniform(0, 900, rows), "D"),
            "garden": rng.random(rows) > 0.5,
        }
    )
    frame.loc[rng.random(rows) < 0.1, "gap"] = np.nan
    return frame, (frame["x"] / 1e4 + frame["rooms"] * (frame["town"] == "a")).to_numpy()


def as_described(frame, record):
    """What a caller does who has nothing but the description."""
    numbers = []
    for column in record["inputs"]["numbers"]["columns"]:
        series = frame[column["name"]]
        if column["holds"].startswith("days"):
            series = (series - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
        numbers.append(series.to_numpy(float))
    codes = []
    for column in record["inputs"]["codes"]["columns"]:
        table = column["codes"]
        codes.append(
            [
                column["missing"] if pd.isna(value)
                else table.get(str(value).lower() if isinstance(value, bool) else value,
                               column["any_other"])
                for value in frame[column["name"]].tolist()
            ]
        )  # fmt: skip
    return {"numbers": np.stack(numbers, 1), "codes": np.array(codes).T}


@pytest.mark.parametrize("kind", [MLPRegressor, MLPClassifier])
def test_the_onnx_file_and_its_description_give_the_same_predictions(kind, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    frame, y = table()
    y = y if kind is MLPRegressor else np.where(y > 1, "many", "few")
    fitted = kind(max_epochs=3, width=32).fit(frame, y)
    model, beside = export(fitted, tmp_path / "model.onnx")
    assert sorted(tmp_path.iterdir()) == sorted([model, beside])
    session = onnxruntime.InferenceSession(str(model))
    later = frame.iloc[:57].assign(town=["new", *frame["town"][1:57]])
    later.iloc[1, 0] = 1e9
    inputs = as_described(later, json.loads(beside.read_text()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = getattr(fitted, "predict_proba", fitted.predict)(later)
    assert np.abs(session.run(None, inputs)[0] - expected).max() < 1e-4
    first = {name: value[:1] for name, value in inputs.items()}
    assert np.abs(session.run(None, first)[0] - expected[:1]).max() < 1e-4


@pytest.mark.parametrize("preprocess", ["quantile", "standard", None])
def test_scaling_in_the_graph_is_the_scaling_of_training(preprocess):
    frame, y = table()
    fitted = MLPRegressor(max_epochs=1, width=8, preprocess=preprocess).fit(frame, y)
    names = ["x", "rooms", "gap"]
    numbers = np.stack([frame[name].to_numpy(float) for name in names], 1)
    days = ((frame["day"] - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)).to_numpy()
    scaled = WholeModel(fitted).scaled(torch.tensor(np.c_[numbers, days])).numpy()
    assert np.allclose(scaled, fitted.transform_columns(frame).numeric[:, :4], atol=1e-6)


def test_tables_of_categories_alone_and_of_texts_have_a_whole_model_too():
    frame, y = table()
    only = frame[["town", "side"]]
    fitted = MLPRegressor(max_epochs=1, width=8).fit(only, y)
    whole = WholeModel(fitted).eval()
    assert list(whole.example()) == ["codes"]
    arrays = fitted.transform_columns(only)
    found = whole(torch.tensor(arrays.categorical)).detach().numpy()
    assert np.allclose(found, fitted.predict(only), atol=1e-5)

    words = np.random.default_rng(0).choice(["sun", "moon", "red", "sea", "hill"], (400, 5))
    notes = pd.DataFrame({"note": [f"{' '.join(row)} {i}" for i, row in enumerate(words)]})
    fitted = MLPRegressor(max_epochs=1, width=8).fit(notes, y)
    whole = WholeModel(fitted).eval()
    assert list(whole.example()) == ["texts"]
    found = whole(torch.tensor(fitted.transform_columns(notes).numeric)).detach().numpy()
    assert np.allclose(found, fitted.predict(notes), atol=1e-5)


def test_an_infinite_number_is_a_missing_one_in_the_graph():
    frame, y = table()
    fitted = MLPRegressor(max_epochs=1, width=8).fit(frame[["x", "gap"]], y)
    whole = WholeModel(fitted).eval()
    given = torch.tensor([[1.0, np.inf], [1.0, np.nan]], dtype=torch.float64)
    infinite, missing = whole(given).tolist()
    assert infinite == missing


def test_the_normal_quantile_is_exact():
    share = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    expected = norm.ppf(share.clamp(1e-7, 1 - 1e-7).numpy())
    assert np.abs(normal_quantile(share).numpy() - expected).max() < 1e-13


def test_what_cannot_be_written_is_refused_by_name(tmp_path):
    frame, y = table(60)
    with pytest.raises(ModelError, match="a Bagged cannot be written"):
        export(Bagged(MLPRegressor()), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"end in \.onnx"):
        export(MLPRegressor(max_epochs=1).fit(frame, y), tmp_path / "model.txt")
    assert not list(tmp_path.iterdir())


def test_the_description_names_the_values_that_a_table_holds():
    frame = pd.DataFrame({"x": np.arange(60.0) % 7, "ok": ["yes", "No"] * 30, "flag": [0, 1] * 30})
    frame["door"], frame["sure"] = [3, 7] * 30, [True, False] * 30
    fitted = MLPRegressor(max_epochs=1, width=8).fit(frame, frame["x"])
    columns = {
        column.name: code_table(column, by_column.cardinality(column))["codes"]
        for column in fitted.contract_._coded
    }
    named = {"ok": ("No", "yes"), "flag": ("0", "1"), "door": ("3", "7"), "sure": ("False", "True")}
    for name, (low, high) in named.items():
        assert (columns[name][low], columns[name][high]) == (0, 1)
