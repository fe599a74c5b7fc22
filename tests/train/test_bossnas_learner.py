"""BossNAS as estimators: searched, stopped and resumed, kept, and its best network trained."""

import os
import signal

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from stackwise import (
    BossNAS,
    BossNASSeriesClassifier,
    BossNASTableClassifier,
    BossNASTableRegressor,
    bossnas,
    bossnas_ranking,
)
from stackwise.errors import DataError, Interrupted, KnobError, ModelError
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.images.task import ImagesTask
from stackwise.train.bossnas import SearchSpace
from stackwise.training import session

SMALL = {"space": "size", "widths": (2, 4), "blocks": 2, "layers": 1, "max_epochs": 2,
         "min_steps": 0, "projection": 4, "hidden": 8, "threads": 1}  # fmt: skip
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
}


def fitted(**knobs) -> BossNAS:
    return BossNAS(**SMALL | knobs).fit(*small_pictures(60))


def same(one, other) -> bool:
    left, right = one.network_.state_dict(), other.network_.state_dict()
    return all(torch.equal(value, right[name]) for name, value in left.items())


def ratings(model) -> list:
    return model.kept_ratings_.as_json()


@parametrize_with_checks(
    [
        BossNAS(space="operations", blocks=1, layers=1, width=8, max_epochs=2, min_steps=0,
                projection=4, hidden=8, batch_size=32, threads=1, augment="none"),
        BossNASTableClassifier(blocks=1, layers=1, width=16, max_epochs=2, min_steps=0,
                               projection=4, hidden=8, batch_size=32, threads=1),
        BossNASTableRegressor(blocks=1, layers=1, width=16, max_epochs=2, min_steps=0,
                              projection=4, hidden=8, batch_size=32, threads=1),
    ],
    expected_failed_checks=lambda _: WEIGHTS,
)  # fmt: skip
@pytest.mark.slow
def test_estimators_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def searched() -> BossNAS:
    return fitted()


def test_a_search_needs_no_labels_and_labels_choose_nothing(searched):
    X, y = small_pictures(60)
    blind = BossNAS(**SMALL | {"validation": 0.0}).fit(X)
    told = BossNAS(**SMALL | {"validation": 0.0}).fit(X, y)
    other = BossNAS(**SMALL | {"validation": 0.0}).fit(X, np.roll(y, 7))
    assert ratings(blind) == ratings(told) == ratings(other)
    assert blind.best_ == told.best_ and len(blind.top(3)) == 3
    with pytest.raises(ValueError, match="not fitted"):
        blind.predict(X)


def test_the_rival_that_learns_labels_asks_for_them():
    with pytest.raises(DataError, match="objective=supervised learns labels: give y"):
        BossNAS(**SMALL, objective="supervised").fit(small_pictures(60)[0])


def test_what_was_found_is_listed_rated_and_built(searched):
    tables = searched.ratings_
    assert [len(one) for one in tables] == [2, 2]
    assert tables[0]["rating"].is_monotonic_increasing
    assert searched.best_ == searched.top(1)[0]
    assert searched.rate(searched.best_) == min(searched.rate(a) for a in searched.top(4))
    small = searched.top(1, max_params=1e9)[0]
    assert small == searched.best_
    with pytest.raises(KnobError, match="none of the best 5,000"):
        searched.top(1, max_params=3)
    assert isinstance(searched.build(), nn.Module)


def test_it_answers_and_is_kept_with_its_ratings(searched, tmp_path):
    X, _ = small_pictures(60)
    searched.save(tmp_path / "kept")
    again = BossNAS.load(tmp_path / "kept")
    assert np.array_equal(again.predict_proba(X), searched.predict_proba(X))
    assert ratings(again) == ratings(searched) and again.best_ == searched.best_
    assert (tmp_path / "kept" / "ratings.csv").is_file()


def test_a_search_that_is_stopped_in_its_second_block_goes_on_to_the_same_bits(searched, tmp_path):
    sent = []

    def stop(event: dict) -> None:
        if not sent and event.get("phase") == "block 2 of 2" and "metrics" in event:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        fitted()
    kept = [path.name for path in (tmp_path / "checkpoint").iterdir()]
    assert {"block-0", "block-1"} <= set(kept)
    with session(folder=tmp_path, resume=True):
        resumed = fitted()
    assert same(searched, resumed) and ratings(searched) == ratings(resumed)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_blocks_of_a_greedy_search_wait_for_each_other():
    with pytest.raises(KnobError, match="take order=apart for workers"):
        fitted(workers=2)


@pytest.mark.slow
def test_blocks_searched_on_a_pool_are_those_searched_in_turn():
    knobs = {"space": "hytra", "widths": None, "width": 2, "scales": 2, "order": "apart"}
    in_turn, at_once = fitted(**knobs), fitted(**knobs, workers=2)
    assert ratings(in_turn) == ratings(at_once) and same(in_turn, at_once)


def test_a_search_apart_rates_every_architecture():
    model = fitted(space="hytra", widths=None, width=2, scales=3, order="apart")
    assert len(list(model.kept_ratings_.in_order())) == len(model.space_)


@pytest.mark.parametrize("objective", ["plain", "supervised"])
@pytest.mark.parametrize("stop_gradient", [True, False])
def test_rivals_rate_too(objective, stop_gradient):
    model = fitted(objective=objective, stop_gradient=stop_gradient, max_epochs=1)
    assert all(np.isfinite(one["rating"]).all() for one in model.ratings_)


def test_earlier_blocks_stay_where_gradients_stop():
    moving, still = fitted(stop_gradient=False), fitted()
    assert ratings(moving)[0] == ratings(still)[0]
    assert ratings(moving)[1] != ratings(still)[1]


def test_the_users_own_views_and_space_are_used():
    seen = []

    def views(inputs, generator):
        seen.append(set(inputs))
        return {n: x + 0.1 * torch.randn(x.shape, generator=generator) for n, x in inputs.items()}

    class Stem(nn.Module):
        def forward(self, pixels):
            return pixels

    layer = {"conv": lambda: nn.Conv2d(1, 1, 3, padding=1), "nothing": nn.Identity}
    space = SearchSpace(
        [[layer], [layer]], stem=Stem, channels=1, example={"pixels": torch.zeros(1, 1, 12, 12)}
    )
    X, y = small_pictures(60)
    knobs = {"max_epochs": 1, "min_steps": 0, "projection": 4, "hidden": 8}
    model = BossNAS(search_space=space, views=views, **knobs).fit(X, y)
    assert seen[0] == {"pixels"} and len(model.ratings_) == 2
    assert model.predict(X).shape == (60,)
    with pytest.raises(ModelError, match="cannot be kept: its stem is a Stem"):
        model.save("nowhere")
    with pytest.raises(DataError, match="views gave"):
        BossNAS(search_space=space, views=lambda i, g: {"pixels": i["pixels"][:1]}, **knobs).fit(X)


def test_series_of_different_length_are_searched():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(2, 10 + i % 5)) + (i % 2) for i in range(40)]
    model = BossNASSeriesClassifier(
        width=4, layers=1, places=8, max_epochs=1, min_steps=0, projection=4, hidden=8
    ).fit(X, np.arange(40) % 2)
    assert model.predict(X).shape == (40,) and len(model.best_) == 2


@pytest.fixture(scope="module")
def task() -> ImagesTask:
    return ImagesTask.load(small_pictures(60))


def test_the_best_network_is_trained_from_scratch(searched, task):
    before = {n: t.clone() for n, t in searched.network_.state_dict().items()}
    made = bossnas(searched, task, epochs=1, min_steps=0)
    assert isinstance(made, BossNAS) and made.architecture_ == searched.best_
    assert not same(made, searched)
    assert all(torch.equal(t, before[n]) for n, t in searched.network_.state_dict().items())
    second = bossnas(searched, task, epochs=1, min_steps=0, place=2)
    assert second.architecture_ == searched.top(2)[1]
    named = bossnas(searched, task, epochs=1, min_steps=0, architecture="4 | 0")
    assert named.architecture_ == ((1,), (0,))


def test_what_cannot_be_trained_is_one_sentence(searched, task):
    with pytest.raises(KnobError, match="'7' is no operation|operation 7"):
        bossnas(searched, task, architecture="7 | 0")
    with pytest.raises(KnobError, match="'wide' is no operation of layer 1 of block 1"):
        bossnas(searched, task, architecture="wide | 0")
    with pytest.raises(ModelError, match="no fitted search"):
        bossnas(nn.Linear(2, 2), task)
    with pytest.raises(DataError, match="give data"):
        bossnas(searched)


def test_ratings_are_held_to_networks_that_are_trained_alone(searched, task):
    found = bossnas_ranking(searched, task, networks=3, truth_seeds=2, epochs=1)
    table = found.tables["agreement"]
    assert list(table.index) == [
        "ceiling: one seed by another", "ratings", "parameters", "multiply-adds",
    ]  # fmt: skip
    assert (table.abs() <= 1).all().all() and len(found.tables["networks"]) == 3
