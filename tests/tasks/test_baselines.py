import numpy as np
import pandas as pd
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from stackwise.errors import RunError, TrainingError
from stackwise.tasks.table.baselines import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    LightGBMClassifier,
    LightGBMRegressor,
    LinearClassifier,
    LinearRegressor,
    MLPClassifier,
    MLPRegressor,
    XGBoostClassifier,
    XGBoostRegressor,
)
from stackwise.tasks.table.contract import UnseenCategories

ALL = [
    MLPRegressor, MLPClassifier, GradientBoostingRegressor, GradientBoostingClassifier,
    LinearRegressor, LinearClassifier, LightGBMRegressor, LightGBMClassifier, XGBoostRegressor,
    XGBoostClassifier,
]  # fmt: skip
SKLEARN = ALL[2:]


def table(rows=900):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=rows),
            "z": rng.normal(size=rows),
            "town": rng.choice(["a", "b", "c", None], rows),
        }
    )
    frame.loc[rng.random(rows) < 0.1, "z"] = np.nan
    y = 10 + 2 * frame["x"] + 3 * (frame["town"] == "a") + 0.1 * rng.normal(size=rows)
    return frame, y.to_numpy()


def target_of(kind, y):
    return y if "Regressor" in kind.__name__ else np.where(y > 11, "more", "less")


@parametrize_with_checks(
    [kind() for kind in SKLEARN],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out"
    },
)
def test_the_baselines_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", ALL)
def test_a_baseline_learns_an_easy_table(kind):
    frame, y = table()
    y = target_of(kind, y)
    fitted = kind().fit(frame[:700], y[:700])
    assert fitted.score(frame[700:], y[700:]) > 0.93


@pytest.mark.parametrize("kind", SKLEARN)
def test_a_baseline_saves_and_loads_to_the_bit_and_rows_do_not_matter(kind, tmp_path):
    frame, y = table(300)
    fitted = kind().fit(frame, target_of(kind, y))
    predict = getattr(fitted, "predict_proba", fitted.predict)
    whole = predict(frame)
    assert all((predict(frame.iloc[[i]]) == whole[[i]]).all() for i in range(0, 300, 17))
    fitted.save(tmp_path)
    loaded = kind.load(tmp_path)
    assert (getattr(loaded, "predict_proba", loaded.predict)(frame) == whole).all()
    assert (loaded.predict(frame) == fitted.predict(frame)).all()
    kept = getattr(kind, "file", "model.skops")
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.json", kept, "features.safetensors",
    }  # fmt: skip


def test_a_kept_model_with_a_type_that_is_not_trusted_is_refused(tmp_path):
    from sklearn.preprocessing import FunctionTransformer
    from skops import io

    frame, y = table(60)
    LinearRegressor().fit(frame, y).save(tmp_path)
    io.dump(FunctionTransformer(np.fromfile), tmp_path / "model.skops")
    with pytest.raises(RunError, match="not trusted"):
        LinearRegressor.load(tmp_path)
    (tmp_path / "model.skops").write_bytes(b"PK cut off")
    with pytest.raises(RunError, match="damaged"):
        LinearRegressor.load(tmp_path)


def test_boosting_stops_early_on_the_given_validation_rows():
    frame, y = table()
    fitted = GradientBoostingRegressor(patience=5).fit(
        frame[:600], y[:600], validation=(frame[600:], y[600:])
    )
    assert fitted.estimator_.n_iter_ < fitted.max_epochs
    assert len(fitted.estimator_.validation_score_) == fitted.estimator_.n_iter_ + 1


@pytest.mark.parametrize("kind", [LightGBMRegressor, XGBoostRegressor])
def test_a_booster_keeps_the_rounds_that_were_best_on_the_validation_rows(kind, tmp_path):
    frame, y = table()
    noisy = y + np.random.default_rng(1).normal(scale=3, size=len(y))
    fitted = kind(patience=5, lr=0.3).fit(
        frame[:600], noisy[:600], validation=(frame[600:], noisy[600:])
    )
    assert fitted.best_epoch_ < 100 < fitted.max_epochs
    shorter = kind(max_epochs=fitted.best_epoch_, patience=None, lr=0.3).fit(
        frame[:600], noisy[:600]
    )
    longer = kind(max_epochs=200, patience=None, lr=0.3, validation=0).fit(frame[:600], noisy[:600])
    error = {
        name: np.square(model.predict(frame[600:]) - noisy[600:]).mean()
        for name, model in (("kept", fitted), ("shorter", shorter), ("longer", longer))
    }
    assert error["kept"] < error["longer"]


@pytest.mark.parametrize("kind", [LightGBMRegressor, XGBoostRegressor])
def test_a_booster_stops_when_its_time_is_over_and_predicts(kind):
    frame, y = table()
    fitted = kind(time_limit=1e-6, patience=None).fit(frame, y)
    assert fitted.best_epoch_ == 1
    assert np.isfinite(fitted.predict(frame)).all()


@pytest.mark.parametrize("kind", [LightGBMRegressor, XGBoostRegressor])
def test_all_unseen_categories_are_alike_to_a_booster(kind):
    frame, y = table()
    fitted = kind(threads=1).fit(frame, y)
    with pytest.warns(UnseenCategories):
        one, other = (fitted.predict(frame[:50].assign(town=name)) for name in ("q", "r"))
    assert (one == other).all()
    assert np.isfinite(one).all()


def test_a_booster_that_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(LightGBMRegressor, "package", "no_such_package")
    frame, y = table(60)
    with pytest.raises(TrainingError, match=r"pip install 'stackwise\[boost\]'"):
        LightGBMRegressor().fit(frame, y)


def test_boosting_sees_raw_numbers_missing_values_and_categories():
    frame, y = table(300)
    fitted = GradientBoostingRegressor(validation=0).fit(frame, y)
    arrays = fitted.transform_columns(frame)
    assert np.array_equal(arrays.numeric[:, 1], frame["z"].to_numpy("float32"), equal_nan=True)
    assert fitted.estimator_.is_categorical_.tolist() == [False, False, True]


def test_many_categories_are_taken_as_numbers_by_the_trees():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"code": rng.choice([f"k{i}" for i in range(300)], 2000)})
    y = rng.normal(size=2000)
    fitted = GradientBoostingRegressor(max_epochs=3).fit(frame, y)
    assert fitted.estimator_.is_categorical_ is None
    assert fitted.predict(pd.DataFrame({"code": ["k1"]}))[0] == pytest.approx(0, abs=1)


def test_the_penalty_grows_with_the_noise():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 40))
    clear = LinearRegressor().fit(X, X[:, 0]).penalty_
    noise = LinearRegressor().fit(X, rng.normal(size=60)).penalty_
    assert clear < noise
    assert LinearRegressor(penalty=2.0).fit(X, X[:, 0]).penalty_ == 2.0
