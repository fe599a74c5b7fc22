import json
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from stackwise.errors import RunError, TrainingError
from stackwise.tasks.labelled.counted import UnseenCategories
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
from stackwise.tasks.table.task import TableTask

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


@pytest.mark.parametrize("kind", [LinearRegressor, GradientBoostingClassifier])
def test_equal_fits_are_kept_in_equal_bytes(kind, tmp_path):
    frame, y = table(120)
    fits = [kind(random_state=0).fit(frame, target_of(kind, y)) for _ in range(2)]
    for place, fitted in enumerate(fits):
        fitted.save(tmp_path / str(place))
    first, second = ((tmp_path / n / "model.skops").read_bytes() for n in ("0", "1"))
    assert first == second
    hashes = [json.loads((tmp_path / n / "model.json").read_text())["hashes"] for n in ("0", "1")]
    assert hashes[0] == hashes[1]


def test_a_kept_model_with_a_type_that_is_not_trusted_is_refused(tmp_path):
    from sklearn.preprocessing import FunctionTransformer
    from skops import io

    frame, y = table(60)
    LinearRegressor().fit(frame, y).save(tmp_path)
    io.dump(FunctionTransformer(np.fromfile), tmp_path / "model.skops")
    record = json.loads((tmp_path / "model.json").read_text())
    del record["hashes"]  # a stranger writes what fits
    (tmp_path / "model.json").write_text(json.dumps(record))
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
    assert fitted.estimator_.n_iter_ < fitted.max_trees
    assert len(fitted.estimator_.validation_score_) == fitted.estimator_.n_iter_ + 1


@pytest.mark.parametrize("kind", [LightGBMRegressor, XGBoostRegressor])
def test_a_booster_keeps_the_rounds_that_were_best_on_the_validation_rows(kind, tmp_path):
    frame, y = table()
    noisy = y + np.random.default_rng(1).normal(scale=3, size=len(y))
    fitted = kind(patience=5, lr=0.3).fit(
        frame[:600], noisy[:600], validation=(frame[600:], noisy[600:])
    )
    assert fitted.best_epoch_ < 100 < fitted.max_trees
    shorter = kind(max_trees=fitted.best_epoch_, patience=None, lr=0.3).fit(
        frame[:600], noisy[:600]
    )
    longer = kind(max_trees=200, patience=None, lr=0.3, validation=0).fit(frame[:600], noisy[:600])
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
    fitted = GradientBoostingRegressor(max_trees=3).fit(frame, y)
    assert fitted.estimator_.is_categorical_ is None
    assert fitted.predict(pd.DataFrame({"code": ["k1"]}))[0] == pytest.approx(0, abs=1)


def test_the_penalty_grows_with_the_noise():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 40))
    clear = LinearRegressor().fit(X, X[:, 0]).penalty_
    noise = LinearRegressor().fit(X, rng.normal(size=60)).penalty_
    assert clear < noise
    assert LinearRegressor(penalty=2.0).fit(X, X[:, 0]).penalty_ == 2.0


@pytest.mark.parametrize("kind", [LinearRegressor, LinearClassifier])
def test_no_seed_moves_the_linear_model(kind):
    frame, y = table(200)
    y = target_of(kind, y + 5 * np.random.default_rng(1).normal(size=200))
    one, other = (kind(random_state=seed).fit(frame, y) for seed in (0, 1))
    assert one.penalty_ == other.penalty_
    assert (one.predict(frame) == other.predict(frame)).all()


@pytest.mark.parametrize("kind", [LinearRegressor, LinearClassifier])
def test_a_large_table_of_long_categories_is_fitted_without_a_warning(kind):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{i}": rng.normal(size=100_000) for i in range(40)})
    for i in range(10):
        codes = rng.integers(200, size=100_000).astype("int16")
        frame[f"c{i}"] = pd.Categorical.from_codes(codes, [f"v{j}" for j in range(200)])
    y = frame["x0"] + (frame["c0"].cat.codes < 100) + rng.normal(size=100_000)
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = kind(threads=1).fit(frame, target_of(kind, y.to_numpy() + 10))
    assert time.process_time() - began < 60
    assert fitted.score(frame[:1000], target_of(kind, y.to_numpy()[:1000] + 10)) > 0.45


def test_a_solver_that_was_cut_off_says_so_in_a_note():
    frame, y = table(200)
    y = target_of(LinearClassifier, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = LinearClassifier(max_steps=1).fit(frame, y)
    assert any("stopped after 1 steps" in note for note in fitted.notes_)
    assert not LinearClassifier().fit(frame, y).notes_


def test_weights_count_where_the_penalty_is_chosen():
    """Rows of weight next to nothing are noise, and the clear ones decide."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 30))
    y = X[:, 0] + np.where(np.arange(120) < 60, 0, 20) * rng.normal(size=120)
    weight = np.where(np.arange(120) < 60, 1.0, 1e-9)
    clear = LinearRegressor().fit(X, y, sample_weight=weight).penalty_
    assert clear < LinearRegressor().fit(X, y).penalty_


def test_a_class_of_one_row_leaves_the_linear_model_able_to_choose():
    frame, y = table(80)
    y = np.where(np.arange(80) == 3, "rare", target_of(LinearClassifier, y))
    fitted = LinearClassifier().fit(frame, y)
    assert fitted.predict_proba(frame).shape == (80, 3)
    assert len(LinearClassifier().fit(frame[:3], ["a", "b", "c"]).classes_) == 3


@pytest.mark.parametrize("problem", ["regression", "classification"])
def test_catboost_answers_alike_after_it_was_kept_and_stops_in_time(problem, tmp_path):
    pytest.importorskip("catboost")
    from stackwise.tasks.table.baselines import CatBoostClassifier, CatBoostRegressor

    task = TableTask.small(problem)
    cls = CatBoostRegressor if problem == "regression" else CatBoostClassifier
    learner = cls(max_trees=20, threads=1)
    task.fit(learner)
    X, _ = task.part("test")
    ask = "predict" if problem == "regression" else "predict_proba"
    learner.save(tmp_path)
    kept = cls.load(tmp_path)
    assert np.array_equal(getattr(kept, ask)(X), getattr(learner, ask)(X))
    assert 1 <= learner.best_epoch_ <= 20
    late = cls(max_trees=2000, patience=None, time_limit=1e-6, threads=1)
    task.fit(late)
    assert "of at most 2000" in late.notes_[-1]
