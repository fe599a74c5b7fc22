"""Kept trees and linear models as ONNX: what the file and its description say, the model says."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from stackwise.errors import ModelError
from stackwise.tasks.table.baselines.histogram_boosting import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
)
from stackwise.tasks.table.baselines.lightgbm_trees import LightGBMClassifier, LightGBMRegressor
from stackwise.tasks.table.baselines.linear import LinearClassifier, LinearRegressor
from stackwise.tasks.table.baselines.xgboost_trees import XGBoostClassifier, XGBoostRegressor
from stackwise.tasks.table.estimators.export import WholeModel, export

REGRESSORS = [LinearRegressor, LightGBMRegressor, XGBoostRegressor, GradientBoostingRegressor]
CLASSIFIERS = [LinearClassifier, LightGBMClassifier, XGBoostClassifier, GradientBoostingClassifier]


def rows(count: int = 500, seed: int = 0, *, gaps: bool = True) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=count),
            "gap": rng.normal(size=count),
            "town": rng.choice(list("abcdefg"), count),
            "side": rng.choice(["p", "q", None], count),
        }
    )
    if gaps:
        frame.loc[rng.random(count) < 0.2, "gap"] = np.nan
    return frame


def truth(frame: pd.DataFrame) -> np.ndarray:
    codes = frame["town"].map({c: i for i, c in enumerate("adgbecf")})
    return (2 * frame["x"] + codes * frame["gap"].fillna(2) + (frame["side"] == "p")).to_numpy()


def fitted(kind, classes: int, *, gaps: bool = True):
    frame = rows(gaps=gaps)
    y = truth(frame)
    if classes:
        y = np.array(["u", "v", "w"])[np.searchsorted(np.quantile(y, [0.4, 0.8][: classes - 1]), y)]
    few = {"max_trees": 12} if "max_trees" in kind().get_params() else {}
    return kind(**few).fit(frame, y)


def new_rows() -> pd.DataFrame:
    """Rows with gaps, a town that training lacks, and numbers far away."""
    frame = rows(300, seed=1)
    frame.loc[:9, "town"] = "elsewhere"
    frame.loc[10:19, "x"] = [np.nan, 1e9, -1e9, 0, np.inf, 1, 2, 3, 4, 5]
    return frame


def inputs(learner, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """What a caller lays in who has the description alone."""
    from stackwise.tasks.table.estimators.export import description

    record = description(learner, WholeModel(learner))["inputs"]
    numbers = [frame[column["name"]].to_numpy(float) for column in record["numbers"]["columns"]]
    codes = [
        [column["missing"] if pd.isna(v) else column["codes"].get(v, column["any_other"])
         for v in frame[column["name"]]]
        for column in record["codes"]["columns"]
    ]  # fmt: skip
    return {"numbers": np.stack(numbers, 1), "codes": np.array(codes).T}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("kind", "classes", "gaps"),
    [(k, 0, gaps) for k in REGRESSORS for gaps in (True, False)]
    + [(k, classes, True) for k in CLASSIFIERS for classes in (2, 3)],
)
def test_the_tensors_say_what_the_model_says(kind, classes, gaps):
    learner, frame = fitted(kind, classes, gaps=gaps), new_rows()
    given = [torch.from_numpy(values) for values in inputs(learner, frame).values()]
    with torch.no_grad():
        found = WholeModel(learner).eval()(*given).numpy()
    expected = learner.predict_proba(frame) if classes else learner.predict(frame)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", [LightGBMClassifier, LinearRegressor])
def test_the_file_is_written_with_its_description_and_runs(kind, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    learner, frame = fitted(kind, 3 if kind is LightGBMClassifier else 0), new_rows()
    model, beside = export(learner, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(model))
    (found,) = session.run(None, inputs(learner, frame))
    by_class = kind is LightGBMClassifier
    expected = learner.predict_proba(frame) if by_class else learner.predict(frame)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert json.loads(beside.read_text())["output"]["name"] in ("probability", "prediction")


@pytest.mark.parametrize("kept", ["number", "word"])
def test_a_table_of_one_kind_of_column_takes_any_number_of_rows(kept, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    frame = pd.DataFrame({"number": np.arange(60.0) % 7, "word": list("abcdef") * 10})[[kept]]
    learner = LightGBMRegressor(max_trees=3).fit(frame, np.arange(60.0) % 7)
    model, _ = export(learner, tmp_path / "m.onnx")
    whole = WholeModel(learner)
    given = {name: np.zeros((5, 1), values.numpy().dtype)
             for name, values in whole.example().items()}  # fmt: skip
    (found,) = onnxruntime.InferenceSession(str(model)).run(None, given)
    assert found.shape == (5,)


def test_a_column_of_small_unit_is_scaled_as_the_network_saw_it():
    from stackwise.tasks.table.baselines.mlp import MLPRegressor

    frame = pd.DataFrame({"metres": np.random.default_rng(0).normal(size=200) * 1e-6})
    learner = MLPRegressor(max_epochs=2, width=8).fit(frame, frame["metres"] * 1e6)
    with torch.no_grad():
        found = WholeModel(learner).eval()(torch.from_numpy(frame.to_numpy().copy())).numpy()
    np.testing.assert_allclose(found, learner.predict(frame), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", REGRESSORS)
@pytest.mark.parametrize(("size", "far"), [(1e-9, 0.0), (1e30, 0.0), (1.0, 1e12)])
def test_a_target_of_unusual_size_comes_back_in_its_own_unit(kind, size, far):
    frame = rows()
    few = {"max_trees": 12} if "max_trees" in kind().get_params() else {}
    learner = kind(**few).fit(frame, truth(frame) * size + far)
    given = [torch.from_numpy(values) for values in inputs(learner, frame).values()]
    with torch.no_grad():
        found = WholeModel(learner).eval()(*given).numpy()
    expected = (learner.predict(frame) - far) / size
    np.testing.assert_allclose((found - far) / size, expected, rtol=1e-3, atol=1e-3)


def test_an_ensemble_is_refused_by_name(tmp_path):
    from stackwise.tasks.labelled.ensembles.bagged import Bagged

    with pytest.raises(ModelError, match="a Bagged cannot be written as ONNX.*export the members"):
        export(Bagged(), tmp_path / "m.onnx")
