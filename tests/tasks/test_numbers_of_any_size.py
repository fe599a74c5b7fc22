"""Numbers of any size are learned from as if they were near one, or refused in one sentence."""

import numpy as np
import pandas as pd
import pytest

from stackwise.catalog import card
from stackwise.errors import DataError
from stackwise.models import load_learner
from stackwise.tasks.table.baselines.class_cost import ManyClasses
from stackwise.training.session import session

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=200), RNG.choice(["x", "y"], 200)
FRAME = pd.DataFrame({"a": A, "b": B})
Y = 2 * A + (B == "x")
CLASS = np.where(Y > 0, "up", "down")
QUICK = {
    "linear": {}, "gradient-boosting": {"max_trees": 40}, "lightgbm": {"max_trees": 60},
    "xgboost": {"max_trees": 60}, "mlp": {"max_epochs": 60, "width": 16, "lr": 0.01},
    "tabm": {"max_epochs": 30, "k": 2, "width": 16}, "masknet": {"max_epochs": 30, "width": 16},
}  # fmt: skip


def made(slug, problem):
    entry = card(slug).entry("learner", problem, task="table")
    return entry.load()(**QUICK[slug])


def explained(target, found):
    size = np.abs(target).max()
    return 1 - np.var(target / size - found / size) / np.var(target / size)


@pytest.mark.parametrize("slug", QUICK)
@pytest.mark.parametrize("size", [1e150, 1e-140, 1e-9])
def test_a_target_of_any_size_is_learned_or_refused(tmp_path, slug, size):
    fitted = made(slug, "regression").fit(FRAME, Y * size)
    found = fitted.predict(FRAME)
    assert explained(Y * size, found) > 0.6
    fitted.save(tmp_path)
    assert (load_learner(tmp_path).predict(FRAME) == found).all()


@pytest.mark.parametrize("slug", ["linear", "gradient-boosting", "lightgbm", "xgboost"])
def test_a_target_far_from_zero_keeps_its_digits(slug):
    assert explained(Y, made(slug, "regression").fit(FRAME, Y + 1e12).predict(FRAME) - 1e12) > 0.6


@pytest.mark.parametrize(("size", "said"), [(1e300, "larger unit"), (1e-300, "smaller unit")])
def test_a_target_whose_squares_no_float_holds_is_refused(size, said):
    with pytest.raises(DataError, match=said):
        made("linear", "regression").fit(FRAME, Y * size)


@pytest.mark.parametrize("slug", QUICK)
@pytest.mark.parametrize("size", [1e-310, 1e-60, 1e150, 4e307])
def test_features_of_any_size_are_told_apart(slug, size):
    frame = FRAME.assign(a=A * size)
    with np.errstate(all="ignore"):
        fitted = made(slug, "regression").fit(frame, Y)
    assert explained(Y, fitted.predict(frame)) > 0.6


def test_a_feature_that_a_computer_hardly_tells_from_zero_is_refused_by_name():
    with pytest.raises(DataError, match="'a' reach .* smaller unit"):
        made("linear", "regression").fit(FRAME.assign(a=A * 1e-320), Y)


@pytest.mark.parametrize("slug", QUICK)
@pytest.mark.parametrize("weight", [1e300, 1e-300])
def test_weights_of_rows_count_beside_each_other_alone(slug, weight):
    plain = made(slug, "classification").fit(FRAME, CLASS, sample_weight=np.ones(200))
    heavy = made(slug, "classification").fit(FRAME, CLASS, sample_weight=np.full(200, weight))
    assert (plain.predict(FRAME) == heavy.predict(FRAME)).mean() > 0.95
    assert np.isfinite(heavy.predict_proba(FRAME)).all()


@pytest.mark.parametrize(
    ("weight", "said"),
    [(np.where(np.arange(200) % 2, 1e300, 1.0), "would not count"), (np.zeros(200), "zero"),
     (np.full(200, -1.0), "not negative"), (np.full(200, np.nan), "finite")],
)  # fmt: skip
def test_weights_that_mean_nothing_are_refused(weight, said):
    with pytest.raises(DataError, match=said):
        made("linear", "regression").fit(FRAME, Y, sample_weight=weight)


@pytest.mark.parametrize("weight", [float("nan"), -1.0, float("inf")])
def test_class_weights_that_mean_nothing_are_refused(weight):
    learner = made("linear", "classification").set_params(class_weight={"up": weight, "down": 1.0})
    with pytest.raises(ValueError, match="class_weight"):
        learner.fit(FRAME, CLASS)


@pytest.mark.parametrize("slug", ["gradient-boosting", "lightgbm", "xgboost"])
def test_boosting_over_many_classes_says_its_trees_before_it_begins(slug):
    labels = np.arange(360) % 120
    frame = pd.DataFrame({"a": RNG.normal(size=360)})
    entry = card(slug).entry("learner", "classification", task="table")
    events = []
    with session(on_event=events.append):
        fitted = entry.load()(max_trees=1).fit(frame, labels)
    assert "120 classes" in events[0]["note"] and "up to 120 trees" in events[0]["note"]
    assert events[0]["note"] in fitted.notes_
    with pytest.warns(ManyClasses, match="up to 240 trees in 2 rounds"):
        entry.load()(max_trees=2).fit(frame, labels)
